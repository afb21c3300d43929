// SeqWindow: which of a stream's numbers are in, when they may come in any order.
//
// A floor below which all numbers are in, and a bitmap of the kWindow numbers from the floor on. Streams that come
// (nearly) in order need 24 bytes: the bitmap past the first 64 numbers is allocated only while it is needed.
// Thread-safety: a plain value, move-only.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/check.h"
#include "common/base/planted_bug.h"

namespace sheaf {

class SeqWindow {
 public:
  static constexpr uint64_t kWindow = 1024;
  // Of a window with a gap: what it has allocated.
  static constexpr size_t kFarBytes = kWindow / 8 + 16;

  SeqWindow() = default;
  // All numbers below `floor` count as in.
  explicit SeqWindow(uint64_t floor) : floor_(floor) {}

  // The window that words() described: bit i of word w is `floor` + 64 w + i. At most kWindow / 64 words.
  static SeqWindow FromWords(uint64_t floor, std::span<const uint64_t> words) {
    SHEAF_CHECK(words.size() <= kWindow / 64, words.size(), " words of a window");
    SeqWindow window(floor);
    for (size_t word = 0; word < words.size(); ++word) {
      if (word == 0) window.near_ = words[0];
      if (word == 0 || words[word] == 0) continue;
      if (window.far_ == nullptr) window.far_ = std::make_unique<Far>();
      (*window.far_)[word - 1] = words[word];
    }
    if (window.near_ & 1) window.Advance();
    return window;
  }
  // What is in from the floor on, without zeros at the end.
  std::vector<uint64_t> words() const {
    std::vector<uint64_t> words{near_};
    if (far_ != nullptr) words.insert(words.end(), far_->begin(), far_->end());
    while (!words.empty() && words.back() == 0) words.pop_back();
    return words;
  }
  bool empty() const { return floor_ == 0 && near_ == 0 && far_ == nullptr; }

  // The smallest number that is not in.
  uint64_t floor() const { return floor_; }

  bool Contains(uint64_t seq) const {
    if (seq < floor_) return !Planted(Bug::kWindowForgetsNewest) || seq + 1 < floor_;
    const uint64_t at = seq - floor_;
    if (at >= kWindow) return false;
    if (at < 64) return (near_ >> at) & 1;
    return far_ != nullptr && (((*far_)[at / 64 - 1] >> (at % 64)) & 1);
  }
  // True if `seq` lies beyond what the bitmap can hold: it cannot be marked before the floor has risen.
  bool WouldExceed(uint64_t seq) const { return seq >= floor_ && seq - floor_ >= kWindow; }

  // Takes `seq` in; marking it again changes nothing. The caller asked WouldExceed first.
  void Mark(uint64_t seq) {
    if (seq < floor_) return;
    const uint64_t at = seq - floor_;
    SHEAF_CHECK(at < kWindow, "seq ", seq, " is ", at, " past the floor of its window");
    if (at < 64) {
      near_ |= uint64_t{1} << at;
    } else {
      if (far_ == nullptr) far_ = std::make_unique<Far>();
      (*far_)[at / 64 - 1] |= uint64_t{1} << (at % 64);
    }
    if (near_ & 1) Advance();
  }

  // All numbers below `floor` count as in from now on: for streams of which we see only some numbers.
  void RaiseFloor(uint64_t floor) {
    if (floor <= floor_) return;
    uint64_t by = floor - floor_;
    if (by >= kWindow) {
      near_ = 0;
      far_.reset();
      by = 0;
    }
    while (by > 0) {
      const int step = static_cast<int>(by < 64 ? by : 64);
      near_ = step == 64 ? 0 : near_ >> step;
      if (far_ != nullptr) ShiftFar(step);
      by -= static_cast<uint64_t>(step);
    }
    floor_ = floor;
    if (near_ & 1) Advance();
  }

 private:
  using Far = std::array<uint64_t, kWindow / 64 - 1>;

  // Moves the floor to the first number that is not in.
  void Advance() {
    while (true) {
      const int full = std::countr_one(near_);
      if (full == 0) return;
      floor_ += static_cast<uint64_t>(full);
      near_ = full == 64 ? 0 : near_ >> full;
      if (far_ == nullptr) return;
      ShiftFar(full);
    }
  }
  // Shifts the far bits down by `count` (1..64) into the near word.
  void ShiftFar(int count) {
    uint64_t any = 0;
    uint64_t carry = 0;  // what falls out of the word above
    for (size_t i = far_->size(); i-- > 0;) {
      uint64_t& word = (*far_)[i];
      const uint64_t falls = count == 64 ? word : word << (64 - count);
      word = (count == 64 ? 0 : word >> count) | carry;
      carry = falls;
      any |= word;
    }
    near_ |= carry;
    if (any == 0) far_.reset();
  }

  uint64_t floor_ = 0;
  uint64_t near_ = 0;  // bit i: floor_ + i
  std::unique_ptr<Far> far_;  // the kWindow - 64 numbers after those; absent: all zero
};

}  // namespace sheaf
