#include "common/runtime/memory.h"

#include <malloc.h>

namespace sheaf {

void KeepFreedMemory() {
  constexpr int kBlocks = 1 << 30;  // larger ones are rare, and still go back
  mallopt(M_MMAP_THRESHOLD, kBlocks);
  mallopt(M_TRIM_THRESHOLD, kBlocks);
}

void GiveBackFreedMemory() { malloc_trim(0); }

}  // namespace sheaf
