// A MetaStore in memory, which outlives the processes of a test that use it one after the other. It can fail as a disk
// does: a transaction is done or not, and its owner hears an error, or ends before it hears anything.
//
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/storage/meta_store.h"

namespace sheaf {

class MemoryMetaStore final : public MetaStore {
 public:
  Result<std::optional<std::string>> Get(const std::string& key) override;
  Result<std::vector<MetaEntry>> List(const std::string& prefix) override;
  Result<bool> Txn(const MetaTxn& txn) override;

  enum class Trouble {
    kNone,
    kNotDone,  // transactions fail, and nothing of them is done
    kDone,     // they fail, and all the same they are done: it was the answer that was lost
  };
  void SetTrouble(Trouble trouble, ErrorCode code = ErrorCode::kResourceExhausted) {
    trouble_ = trouble;
    trouble_code_ = code;
  }
  uint64_t txns() const { return txns_; }  // that were done

 private:
  std::map<std::string, std::string> entries_;
  Trouble trouble_ = Trouble::kNone;
  ErrorCode trouble_code_{};
  uint64_t txns_ = 0;
};

}  // namespace sheaf
