#include "tests/sim/sim_store.h"

#include <utility>

namespace sheaf::sim {

class SimStore::Store final : public KvStore {
 public:
  explicit Store(std::shared_ptr<State> state) : state_(std::move(state)), current_(state_->flushed) {}

  Status Write(const KvBatch& batch) override {
    SHEAF_RETURN_IF_ERROR(CheckRoom());
    Apply(batch, current_);
    state_->unflushed.push_back(batch);
    return {};
  }
  Status Flush() override {
    SHEAF_RETURN_IF_ERROR(CheckRoom());
    for (const KvBatch& batch : std::exchange(state_->unflushed, {})) Apply(batch, state_->flushed);
    return {};
  }
  Result<std::optional<std::string>> Get(std::string_view key) override {
    const auto found = current_.find(key);
    return found == current_.end() ? std::nullopt : std::optional<std::string>(found->second);
  }
  Status MultiGet(std::span<const std::string_view> keys, const FoundTaker& take) override {
    for (size_t i = 0; i < keys.size(); ++i) {
      SHEAF_ASSIGN_OR_RETURN(const auto value, Get(keys[i]));
      if (value) SHEAF_RETURN_IF_ERROR(take(i, *value));
    }
    return {};
  }
  Status Scan(std::string_view begin, std::string_view end, const Taker& take) override {
    for (auto at = current_.lower_bound(begin); at != current_.end() && at->first < end; ++at) {
      SHEAF_RETURN_IF_ERROR(take(at->first, at->second));
    }
    return {};
  }
  uint64_t bytes() const override {
    uint64_t bytes = 0;
    for (const auto& [key, value] : current_) bytes += key.size() + value.size();
    return bytes;
  }

 private:
  Status CheckRoom() {
    broken_ |= state_->full;
    if (broken_) return Fail(ErrorCode::kResourceExhausted, "the simulated disk is full");
    return {};
  }

  const std::shared_ptr<State> state_;
  Map current_;
  bool broken_ = false;
};

SimStore::SimStore(uint64_t seed) : state_(std::make_shared<State>(seed)) {}

std::unique_ptr<KvStore> SimStore::Open() {
  const uint64_t unflushed = state_->unflushed.size();
  const uint64_t survive = unflushed == 0 ? 0 : state_->random.Below(unflushed + 1);
  for (uint64_t i = 0; i < survive; ++i) Apply(state_->unflushed[i], state_->flushed);
  state_->unflushed.clear();
  state_->lost = unflushed - survive;
  return std::make_unique<Store>(state_);
}

void SimStore::SetFull(bool full) { state_->full = full; }
uint64_t SimStore::lost_batches() const { return state_->lost; }

void SimStore::Apply(const KvBatch& batch, Map& map) {
  batch.ForEach([&](KvBatch::Kind kind, std::string_view first, std::string_view second) {
    switch (kind) {
      case KvBatch::Kind::kPut:
        map.insert_or_assign(std::string(first), std::string(second));
        break;
      case KvBatch::Kind::kDelete:
        if (const auto found = map.find(first); found != map.end()) map.erase(found);
        break;
      case KvBatch::Kind::kDeleteRange:
        map.erase(map.lower_bound(first), map.lower_bound(second));
        break;
    }
  });
}

}  // namespace sheaf::sim
