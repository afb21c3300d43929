#include "common/base/block_pool.h"

#include <algorithm>
#include <bit>

namespace sheaf {
namespace {

constexpr size_t kSmallestBits = 6;
constexpr size_t kSmallest = size_t{1} << kSmallestBits;

// 64, 80, 96, 112, 128, 160, ...: four sizes from each power of two to the next.
size_t ClassOf(size_t bytes) {
  const size_t last = std::max(bytes, kSmallest) - 1;
  const auto bits = static_cast<size_t>(std::bit_width(last));
  return (bits - kSmallestBits) * 4 + ((last >> (bits - 3)) & 3);
}

size_t SizeOf(size_t size_class) { return (size_class % 4 + 5) << (size_class / 4 + kSmallestBits - 3); }

using Word = std::max_align_t;

void* FromHeap(size_t bytes) { return std::allocator<Word>().allocate((bytes + sizeof(Word) - 1) / sizeof(Word)); }

void ToHeap(void* block, size_t bytes) {
  std::allocator<Word>().deallocate(static_cast<Word*>(block), (bytes + sizeof(Word) - 1) / sizeof(Word));
}

}  // namespace

BlockPool::~BlockPool() {
  for (size_t i = 0; i < kClasses; ++i) {
    while (spare_[i] != nullptr) ToHeap(std::exchange(spare_[i], spare_[i]->next), SizeOf(i));
  }
}

void* BlockPool::Take(size_t bytes) {
  const size_t size_class = ClassOf(bytes);
  if (size_class >= kClasses) return FromHeap(bytes);
  const size_t size = SizeOf(size_class);
  {
    const std::lock_guard lock(mutex_);
    if (Spare*& first = spare_[size_class]; first != nullptr) {
      spare_bytes_ -= size;
      return std::exchange(first, first->next);
    }
  }
  return FromHeap(size);
}

void BlockPool::GiveBack(void* block, size_t bytes) noexcept {
  const size_t size_class = ClassOf(bytes);
  if (size_class >= kClasses) return ToHeap(block, bytes);
  if (SizeOf(size_class) > limit_) return ToHeap(block, SizeOf(size_class));
  while (true) {
    size_t other = kClasses;  // and the heap is called without the lock
    Spare* gone = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (spare_bytes_ <= limit_ - SizeOf(size_class)) {
        spare_[size_class] = std::construct_at(static_cast<Spare*>(block), Spare{spare_[size_class]});
        spare_bytes_ += SizeOf(size_class);
        return;
      }
      while (gone == nullptr && other > 0) {
        if (--other != size_class && spare_[other] != nullptr) gone = std::exchange(spare_[other], spare_[other]->next);
      }
      if (gone != nullptr) spare_bytes_ -= SizeOf(other);
    }
    if (gone == nullptr) return ToHeap(block, SizeOf(size_class));
    ToHeap(gone, SizeOf(other));
  }
}

size_t BlockPool::spare_bytes() const {
  const std::lock_guard lock(mutex_);
  return spare_bytes_;
}

}  // namespace sheaf
