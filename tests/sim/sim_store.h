// A KvStore that outlives the processes that write to it, on a disk that can be full; and one that fails when it is
// told to.
//
// What was flushed survives; of the batches written since, a drawn number from the first on. Thread-safety: none.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "common/base/random.h"
#include "common/storage/kv_store.h"

namespace sheaf::sim {

class SimStore {
 public:
  explicit SimStore(uint64_t seed);

  // For one process at a time: the one before has ended.
  std::unique_ptr<KvStore> Open();
  // Writes and flushes fail until it has room again.
  void SetFull(bool full);
  // How many batches the last Open found lost.
  uint64_t lost_batches() const;

 private:
  using Map = std::map<std::string, std::string, std::less<>>;
  class Store;
  struct State {
    explicit State(uint64_t seed) : random(seed) {}
    Random random;
    Map flushed;
    std::deque<KvBatch> unflushed;
    bool full = false;
    uint64_t lost = 0;
  };
  static void Apply(const KvBatch& batch, Map& map);

  std::shared_ptr<State> state_;
};

// Lends a store, whose n-th Write or Flush (1: the next) fails, and all after it.
class FailingStore final : public KvStore {
 public:
  FailingStore(std::unique_ptr<KvStore> store, uint64_t fail_at, ErrorCode code)
      : store_(std::move(store)), left_(fail_at), code_(code) {}

  Status Write(const KvBatch& batch) override { return Fails() ? Error() : store_->Write(batch); }
  Status Flush() override { return Fails() ? Error() : store_->Flush(); }
  Result<std::optional<std::string>> Get(std::string_view key) override { return store_->Get(key); }
  Status MultiGet(std::span<const std::string_view> keys, const FoundTaker& take) override {
    return store_->MultiGet(keys, take);
  }
  Status Scan(std::string_view begin, std::string_view end, const Taker& take) override {
    return store_->Scan(begin, end, take);
  }
  uint64_t bytes() const override { return store_->bytes(); }

 private:
  bool Fails() { return left_ == 0 || --left_ == 0; }
  Failure Error() const { return Fail(code_, "the store fails as it was told to"); }

  const std::unique_ptr<KvStore> store_;
  uint64_t left_;
  const ErrorCode code_;
};

}  // namespace sheaf::sim
