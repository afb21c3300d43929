#include "tests/sim/sim_disk.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace sheaf::sim {
namespace {

Buffer Joined(const std::vector<Buffer>& pieces) {
  const size_t size = std::accumulate(pieces.begin(), pieces.end(), size_t{0},
                                      [](size_t sum, const Buffer& piece) { return sum + piece.size(); });
  std::vector<uint64_t> words(size / sizeof(uint64_t) + 1);
  auto* to = reinterpret_cast<std::byte*>(words.data());
  for (const Buffer& piece : pieces) {
    if (!piece.empty()) std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
  return Buffer::FromVector(std::move(words)).Slice(0, size);
}

}  // namespace

class SimDisk::Log final : public RedoLog {
 public:
  explicit Log(std::shared_ptr<State> state) : state_(std::move(state)) {
    for (const Buffer& record : state_->records) bytes_ += record.size();
  }

  uint64_t Append(std::vector<Buffer> pieces) override {
    pending_.push_back(Joined(pieces));
    return next_index() - 1;
  }
  Status Commit(Durability level) override {
    if (anew_) {
      state_->first = state_->next();
      state_->synced = state_->first;
      state_->records.clear();
      bytes_ = 0;
    }
    if (!pending_.empty() && state_->full && !anew_) {
      return Fail(ErrorCode::kResourceExhausted, "the simulated disk is full");
    }
    for (Buffer& record : pending_) {
      bytes_ += record.size();
      state_->records.push_back(std::move(record));
    }
    pending_.clear();
    anew_ = false;
    if (level == Durability::kFsync) state_->synced = state_->next();
    return {};
  }
  std::shared_ptr<RedoLogDisk> disk() override { return std::make_shared<Disk>(state_); }
  Status Replay(uint64_t from, const Taker& take) override {
    if (anew_) return {};
    for (uint64_t index = std::max(from, state_->first); index < state_->next(); ++index) {
      SHEAF_RETURN_IF_ERROR(take(index, state_->records[index - state_->first]));
    }
    return {};
  }
  void BeginAnew() override {
    pending_.clear();
    anew_ = true;
  }
  Status TrimTo(uint64_t index) override {
    while (!anew_ && state_->first + kSegmentRecords <= std::min(index, state_->next())) {
      for (uint64_t i = 0; i < kSegmentRecords; ++i) {
        bytes_ -= state_->records.front().size();
        state_->records.pop_front();
        ++state_->first;
      }
      state_->synced = std::max(state_->synced, state_->first);
    }
    return {};
  }
  uint64_t first_index() const override { return state_->first; }
  uint64_t next_index() const override { return state_->next() + pending_.size(); }
  uint64_t bytes() const override { return bytes_; }

 private:
  static constexpr uint64_t kSegmentRecords = 3;  // that go together

  class Disk final : public RedoLogDisk {
   public:
    explicit Disk(std::shared_ptr<State> state) : state_(std::move(state)) {}
    Status SyncTo(uint64_t index) override {
      if (index > state_->next()) return Fail(ErrorCode::kUnavailable, "record ", index - 1, " is not written");
      state_->synced = std::max(state_->synced, index);
      return {};
    }
    void TrimTo(uint64_t /*index*/) override {}

   private:
    const std::shared_ptr<State> state_;
  };

  const std::shared_ptr<State> state_;
  std::vector<Buffer> pending_;
  uint64_t bytes_ = 0;
  bool anew_ = false;
};

SimDisk::SimDisk(uint64_t seed) : state_(std::make_shared<State>(State{Random(seed), {}, 1, 1, false})) {}

std::unique_ptr<RedoLog> SimDisk::OpenLog() { return std::make_unique<Log>(state_); }

void SimDisk::LosePower() {
  const uint64_t unsynced = state_->next() - state_->synced;
  for (uint64_t lost = unsynced == 0 ? 0 : state_->random.Below(unsynced + 1); lost > 0; --lost) {
    state_->records.pop_back();
  }
}

void SimDisk::SetFull(bool full) { state_->full = full; }

}  // namespace sheaf::sim
