// HTTP requests to an etcd, one at a time: to one of its members, and to the next one when that does not answer.
//
// A request blocks its caller for Options::attempt at most. Nothing here waits before it tries again: after a failure
// the caller decides. Thread-safety: none; who needs two at once makes two.
// Errors: kUnavailable: nothing was sent, nobody is there; kTimeout: no answer in time, or one that says nothing: the
// outcome is unknown; kDataLoss: the answer cannot be read, the outcome is unknown; those of DecodeEtcdError.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/storage/etcd_codec.h"

namespace sheaf {

class EtcdClient {
 public:
  struct Options {
    Duration attempt = std::chrono::seconds(1);  // for one request to one member
    Duration connect = Milliseconds(400);        // of it, for the connection
  };
  // `endpoints`: HOST:PORT each, at least one.
  EtcdClient(std::vector<std::string> endpoints, Options options);
  explicit EtcdClient(std::vector<std::string> endpoints) : EtcdClient(std::move(endpoints), Options()) {}
  ~EtcdClient();

  // One attempt at one member: after an error it may be done or not, unless the error says that it is not. The next
  // request goes to the next member.
  Result<EtcdTxnAnswer> Txn(const EtcdTxn& txn);
  // What may be done twice: each member is asked in turn until one answers.
  Result<EtcdRangeAnswer> Range(const EtcdRange& range);
  // A lease more than is needed ends by itself.
  Result<EtcdLease> Grant(int64_t ttl_s);
  Result<EtcdLease> KeepAlive(int64_t lease);  // ttl_s is 0: it has ended
  // Success: it has ended, and the keys with it.
  Status Revoke(int64_t lease);

  size_t endpoint_count() const;

 private:
  Result<std::string> Post(const std::string& path, const std::string& body);
  Result<std::string> PostToAny(const std::string& path, const std::string& body);
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
