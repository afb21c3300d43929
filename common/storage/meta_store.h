// The few keys that a cluster must never lose: who it is, what lies where, what it has promised (the scheduler's).
//
// An interface: RocksMetaStore keeps them in a folder, MemoryMetaStore in memory for tests and the simulator; both pass
// tests/contract/meta_store. Its operations are those that a store shared by several machines has as well (etcd: range,
// and a transaction of compares, puts and deletes), so that one can take its place.
// Thread-safety: none; it belongs to one event loop, which its calls hold up.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace sheaf {

struct MetaEntry {
  std::string key, value;
};

// What must hold for a transaction to be done.
struct MetaCompare {
  std::string key;
  std::optional<std::string> value;  // nothing: there is no such key
};

// A key is put or deleted, not both. Deleting one that is not there is no error.
struct MetaTxn {
  std::vector<MetaCompare> compares{};
  std::vector<MetaEntry> puts{};
  std::vector<std::string> deletes{};

  bool empty() const { return puts.empty() && deletes.empty(); }
};

class MetaStore {
 public:
  virtual ~MetaStore() = default;

  virtual Result<std::optional<std::string>> Get(const std::string& key) = 0;
  // Those whose key begins with `prefix`, ascending by the bytes of the key.
  virtual Result<std::vector<MetaEntry>> List(const std::string& prefix) = 0;
  // True: every compare held, and all of it is done and survives the loss of power. False: one did not hold, nothing
  // was done. An error: it may be done or not, as a whole; the same transaction may be made again. kResourceExhausted:
  // the disk is full, and it is worth doing so when there is room.
  virtual Result<bool> Txn(const MetaTxn& txn) = 0;
};

}  // namespace sheaf
