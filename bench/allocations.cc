#include "bench/allocations.h"

#include <cstdlib>
#include <new>

namespace sheaf::bench {
namespace {

std::atomic<uint64_t> of_this_process = 0;
std::atomic<std::atomic<uint64_t>*> counted_in = &of_this_process;

}  // namespace

uint64_t Allocations() { return counted_in.load(std::memory_order_relaxed)->load(std::memory_order_relaxed); }
void CountAllocationsIn(std::atomic<uint64_t>& counter) { counted_in.store(&counter, std::memory_order_relaxed); }

}  // namespace sheaf::bench

// Replaces the library's; its array and nothrow forms call this one, and its operator delete frees what malloc gave.
void* operator new(std::size_t size) {
  sheaf::bench::counted_in.load(std::memory_order_relaxed)->fetch_add(1, std::memory_order_relaxed);
  if (void* const memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
