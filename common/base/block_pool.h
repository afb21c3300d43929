// BlockPool: memory for what is made and gone thousands of times a second, kept for the next of about its size.
//
// Frames and their owners are made on one thread and let go of on another (ZeroMQ's, when the bytes are on the wire);
// the heap would be asked each time. Sizes are rounded up to steps of an eighth to a quarter of themselves.
// Thread-safety: all functions from any thread. Ownership: an allocator shares the pool, so objects made with one may
// outlive whoever made the pool. Memory: at most `spare_bytes` are kept beside what is in use; blocks of other sizes
// make room for the one that comes, largest first, so that what was in fashion once does not stay for ever.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

namespace sheaf {

class BlockPool {
 public:
  explicit BlockPool(size_t spare_bytes) : limit_(spare_bytes) {}
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // Uninitialised, aligned for every plain type.
  void* Take(size_t bytes);
  // `bytes` as it was taken.
  void GiveBack(void* block, size_t bytes) noexcept;

  size_t spare_bytes() const;

 private:
  struct Spare {
    Spare* next;
  };
  static constexpr size_t kClasses = 72;  // up to 8 MiB: more is not kept

  const size_t limit_;
  mutable std::mutex mutex_;                 // guards all below
  std::array<Spare*, kClasses> spare_ = {};  // by size: a list through the blocks themselves
  size_t spare_bytes_ = 0;
};

// For std::allocate_shared, whose one block has the object and its counts.
template <typename T>
class PoolAllocator {
 public:
  using value_type = T;

  explicit PoolAllocator(std::shared_ptr<BlockPool> pool) : pool_(std::move(pool)) {}
  template <typename U>
  PoolAllocator(const PoolAllocator<U>& other) : pool_(other.pool()) {}  // as std::allocator: of one type for another

  T* allocate(size_t count) {
    static_assert(alignof(T) <= alignof(std::max_align_t));
    return static_cast<T*>(pool_->Take(count * sizeof(T)));
  }
  void deallocate(T* first, size_t count) noexcept { pool_->GiveBack(first, count * sizeof(T)); }

  const std::shared_ptr<BlockPool>& pool() const { return pool_; }
  friend bool operator==(const PoolAllocator&, const PoolAllocator&) = default;

 private:
  std::shared_ptr<BlockPool> pool_;
};

}  // namespace sheaf
