// Counts calls of operator new, and what memcpy and memmove move in large pieces, on all threads of this program but
// those that are left out. What ZeroMQ takes for itself is not counted.
//
// Linking counting.cc replaces the functions: a program of its own, without sanitizers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sheaf::counting {

inline constexpr size_t kLargePiece = 4096;  // bytes: rows are copied one by one, and are smaller

struct Counts {
  uint64_t allocations = 0;
  uint64_t copied_bytes = 0;  // in large pieces
};

Counts SoFar();
void LeaveOutThisThread();

}  // namespace sheaf::counting
