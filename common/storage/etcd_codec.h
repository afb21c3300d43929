// What is said to etcd's JSON gateway, and what it answers, as text: no socket here.
//
// Numbers of 64 bits are strings both ways, keys and values are base64, and what is false, zero or empty is left out of
// answers. Answers are from another program: whatever does not fit is an error, kDataLoss.
// Thread-safety: functions. etcd's own words: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace sheaf {

std::string EncodeBase64(std::string_view bytes);
// kDataLoss: it is not base64, with padding.
Result<std::string> DecodeBase64(std::string_view text);

struct EtcdEntry {
  std::string key, value;
  int64_t create_revision = 0;  // of the store, when the key was made; never the same for two lives of a key
  int64_t lease = 0;            // with which it ends; 0: none
};

struct EtcdCompare {
  enum class What { kValue, kCreateRevision };
  static EtcdCompare Value(std::string key, std::string value) { return {std::move(key), What::kValue, value, 0}; }
  static EtcdCompare CreatedAt(std::string key, int64_t revision) {
    return {std::move(key), What::kCreateRevision, "", revision};
  }
  static EtcdCompare Absent(std::string key) { return CreatedAt(std::move(key), 0); }

  std::string key;
  What what = What::kValue;
  std::string value;
  int64_t create_revision = 0;
};

// From `key` to before `end`; an empty end: that key alone.
struct EtcdRange {
  std::string key, end{};
  int64_t limit = 0;      // of entries; 0: none
  int64_t revision = 0;   // as of which; 0: the latest
  bool keys_only = false;
};
// All keys that begin with `prefix`.
EtcdRange EtcdPrefix(const std::string& prefix);

struct EtcdOp {
  enum class What { kPut, kDelete, kRange };
  // A put without a lease takes away the one that the key had.
  static EtcdOp Put(std::string key, std::string value, int64_t lease = 0) {
    return {What::kPut, {.key = std::move(key)}, std::move(value), lease};
  }
  static EtcdOp Delete(EtcdRange range) { return {What::kDelete, std::move(range), "", 0}; }
  static EtcdOp Read(EtcdRange range) { return {What::kRange, std::move(range), "", 0}; }

  What what = What::kPut;
  EtcdRange range;
  std::string value;
  int64_t lease = 0;
};

struct EtcdTxn {
  std::vector<EtcdCompare> compares{};
  std::vector<EtcdOp> then{}, otherwise{};
};

struct EtcdRangeAnswer {
  std::vector<EtcdEntry> entries;  // ascending
  bool more = false;               // than the limit
  int64_t revision = 0;            // of the store
};

struct EtcdTxnAnswer {
  bool succeeded = false;
  int64_t revision = 0;                 // of the store
  std::vector<EtcdRangeAnswer> ranges;  // one for each operation that was done; empty of puts and deletes
};

struct EtcdLease {
  int64_t id = 0;
  int64_t ttl_s = 0;  // 0: there is no such lease (any more)
};

std::string EncodeEtcdTxn(const EtcdTxn& txn);                // to /v3/kv/txn
Result<EtcdTxnAnswer> DecodeEtcdTxn(std::string_view text);
std::string EncodeEtcdRange(const EtcdRange& range);          // to /v3/kv/range
Result<EtcdRangeAnswer> DecodeEtcdRange(std::string_view text);
std::string EncodeEtcdGrant(int64_t ttl_s);                   // to /v3/lease/grant
Result<EtcdLease> DecodeEtcdGrant(std::string_view text);
std::string EncodeEtcdLease(int64_t id);                      // to /v3/lease/keepalive, /v3/lease/revoke
Result<EtcdLease> DecodeEtcdKeepAlive(std::string_view text);

// What an answer with another HTTP status than 200 means. kTimeout: the outcome is unknown; kResourceExhausted: its
// disk or quota is full, or it has too much to do; kNotFound, kInvalidArgument, kPermissionDenied: nothing was done.
Error DecodeEtcdError(int64_t http_status, std::string_view text);

}  // namespace sheaf
