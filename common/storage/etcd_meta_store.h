// A MetaStore in an etcd, which outlives machines: several processes may be able to reach it, one at a time uses it.
//
// What lies where, below the address's prefix:
//
//   PREFIX/leader            who uses it (scheduler/election.h), with a lease
//   PREFIX/txn               the name of the last transaction: each has its own, and compares the one before
//   PREFIX/k/KEY             "=" and the value; or "+N": it lies in N pieces,
//   PREFIX/v/LENGTH/KEY/I    the pieces; LENGTH of KEY, I in eight digits
//   PREFIX/large             "NAME N": a transaction that is done, and of which not all lies in its place yet,
//   PREFIX/large/NAME/I      and what it is, in N pieces
//
// etcd takes 128 operations and 1.5 MiB at once. A larger transaction is put beside in pieces, then done by one small
// one, then brought to its place, by whoever opens the store next if need be; nothing is read before it is.
// When an answer does not come, a transaction may be done, not be done, or be on its way: the next call first settles
// which. It takes the place of the name that the transaction compares, so that one that still comes does nothing.
// With a Fence every transaction also compares who leads: those of a process that does not lead any more do nothing,
// however late they come.
// Thread-safety: none. A call may take Options::deadline. Errors: kUnavailable: etcd does not answer, or cannot; call
// again. kAlreadyExists: another process writes to the store. kResourceExhausted, kPermissionDenied, kDataLoss.
// kInvalidArgument: a key is longer than 4 KiB, or a compared value than a piece.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/runtime/clock.h"
#include "common/storage/etcd_address.h"
#include "common/storage/etcd_client.h"
#include "common/storage/meta_store.h"

namespace sheaf {

// A key, and when it was made: as long as it lives, its owner leads.
struct EtcdFence {
  std::string key;
  int64_t create_revision = 0;
};

class EtcdMetaStore final : public MetaStore {
 public:
  struct Options {
    std::optional<EtcdFence> fence{};
    Duration deadline = Milliseconds(1500);  // of a call, about
    EtcdClient::Options client{};
  };
  // Brings a large transaction of the process before to its end. kUnavailable: etcd does not answer.
  static Result<std::unique_ptr<EtcdMetaStore>> Open(const EtcdAddress& address, Options options);
  ~EtcdMetaStore() override;

  Result<std::optional<std::string>> Get(const std::string& key) override;
  Result<std::vector<MetaEntry>> List(const std::string& prefix) override;
  Result<bool> Txn(const MetaTxn& txn) override;

 private:
  // A transaction whose answer did not come.
  struct Unsettled {
    MetaTxn txn;
    std::string name;     // of it
    std::string barrier;  // what takes the place of the name if it is not done
    size_t pieces = 0;    // that a large one lies in
  };
  // One that is done, and does not lie in its place yet.
  struct Large {
    std::string name;
    size_t pieces = 0;
    std::optional<MetaTxn> txn{};  // nothing: as it lies in the store
    std::string Marker() const { return name + " " + std::to_string(pieces); }
  };

  EtcdMetaStore(const EtcdAddress& address, Options options);
  Status Begin();
  // Afterwards the last transaction is done or will never be, and all of it is in its place. Answers what it was, if it
  // had not been said to be done.
  Result<std::optional<MetaTxn>> Settle();
  Result<bool> ResolveUnsettled();
  Result<bool> TryTxn(const MetaTxn& txn);
  Result<bool> Commit(const MetaTxn& txn, EtcdTxn commit, const std::string& name, size_t pieces);
  Status BringToPlace();
  Result<size_t> PutPieces(const std::string& name, const std::string& bytes);
  // What may be done twice, as long as we lead and (`marker`) a large transaction is not in its place. False: it is.
  Result<bool> DoFenced(const std::optional<std::string>& marker, std::vector<EtcdOp> ops);
  std::vector<EtcdOp> OpsOf(const MetaTxn& txn) const;
  void NotePieces(const MetaTxn& txn);
  Result<std::string> ReadPieces(const std::string& prefix, size_t count);
  Result<std::string> ValueOf(const std::string& key, const std::string& stored);
  Result<std::vector<EtcdEntry>> ReadAll(EtcdRange range);
  EtcdCompare NamesLast() const;  // no transaction has been done since the one that we know of
  std::vector<EtcdCompare> Fenced() const;
  std::string NewName();
  std::string Key(const std::string& rest) const { return prefix_ + rest; }
  std::string ValueKey(const std::string& key) const { return Key("k/" + key); }
  std::string PiecesKey(const std::string& key) const;

  const Options options_;
  const std::string prefix_;  // with a slash at its end
  const SystemClock clock_;
  EtcdClient client_;
  std::string names_;                    // what ours begin with
  uint64_t next_name_ = 1;
  std::string last_;                     // name of the last transaction; empty: there was none
  std::optional<Unsettled> unsettled_;
  std::optional<Large> large_;           // done, but not in its place
  std::map<std::string, size_t> pieces_; // of values that lie in pieces, by key
};

}  // namespace sheaf
