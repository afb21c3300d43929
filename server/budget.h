// Bytes that a shard holds for requests it has not finished: parked pulls, staged slices, gradients kept for BSP.
//
// A shard has two of them, of one limit: one for all, and one for pushes that everybody waits for. What waits must
// never take the room of what it waits for; one budget with an allowance on top did not keep that.
// A Reservation gives its bytes back when it is destroyed. Thread-safety: none. The budget outlives its reservations.
#pragma once

#include <cstddef>
#include <utility>

namespace sheaf {

class Budget {
 public:
  explicit Budget(size_t limit) : limit_(limit) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  size_t limit() const { return limit_; }
  size_t used() const { return used_; }
  bool Fits(size_t bytes) const { return used_ <= limit_ && bytes <= limit_ - used_; }

 private:
  friend class Reservation;
  const size_t limit_;
  size_t used_ = 0;
};

class Reservation {
 public:
  Reservation() = default;
  Reservation(Budget& budget, size_t bytes) : budget_(&budget), bytes_(bytes) { budget.used_ += bytes; }
  Reservation(Reservation&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Reservation& operator=(Reservation&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Reservation() {
    if (budget_ != nullptr) budget_->used_ -= bytes_;
  }
  size_t bytes() const { return bytes_; }

 private:
  Budget* budget_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace sheaf
