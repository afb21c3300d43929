// How often this process took memory: every call of operator new, on whatever thread. (ZeroMQ takes a frame's memory
// with malloc, which is not counted: it does so for the limit as for us.)
#pragma once

#include <atomic>
#include <cstdint>

namespace sheaf::bench {

uint64_t Allocations();
// From now on this process counts there; a child's page is shared with its parent, who reads it.
void CountAllocationsIn(std::atomic<uint64_t>& counter);

}  // namespace sheaf::bench
