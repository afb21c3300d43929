// Turns a list of hashed keys into the sorted list of distinct keys, and each key into its place there.
//
// Algorithm: hashed keys are uniform, so a key's high bits are its place in a table: linear probing from there leaves
// the table nearly sorted (Gonnet and Munro's linear probing sort, 1984); a scan and an insertion sort finish it.
// Keys that are not uniform are recognised by the number of probes and sorted instead: slower, never quadratic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/ids.h"

namespace sheaf {

// `distinct` becomes the distinct values of `keys`, ascending; distinct[index[j]] == keys[j]. `index`: [keys.size()].
// Thread-safe: scratch (about 50 bytes a key of the longest list so far) belongs to the calling thread.
void IndexKeys(std::span<const HashedKey> keys, std::span<uint32_t> index, std::vector<HashedKey>& distinct);

}  // namespace sheaf
