// The rows of one table in all partitions of a shard: batches of keys are looked up across partitions at once.
//
// A sorted batch has few keys a partition, so what is done once a partition would cost more than the lookups. Where a
// key is looked for is arithmetic: the high half of key * partitions names the partition, the low half its home there.
// Buckets and rows are fetched into the cache ahead of their use, so the memory's latencies overlap (group prefetching:
// Chen et al., ICDE 2004).
// Thread-safety: none. Ownership: owns the stores of its partitions; the layout is lent and outlives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/ids.h"
#include "server/row_store.h"

namespace sheaf {

// Of one call: their rows fit into the second-level cache.
inline constexpr size_t kMaxLookupKeys = 512;

class TableRows {
 public:
  TableRows(const RowLayout* layout, uint32_t partition_count);

  // nullptr: it has no rows (yet).
  const RowStore* store(uint32_t partition) const { return stores_[partition].get(); }
  RowStore* store(uint32_t partition) { return stores_[partition].get(); }
  // The partition's rows are those of `store`, or none.
  void Put(uint32_t partition, std::unique_ptr<RowStore> store);
  // They go to another owner; nullptr: there are none.
  std::unique_ptr<RowStore> Take(uint32_t partition);
  // The partition's rows are gone: it is no longer ours.
  void Drop(uint32_t partition) { Put(partition, nullptr); }

  // rows[i] is that of keys[i]; nullptr if it is absent. At most kMaxLookupKeys keys, ascending. The weights are on
  // their way into the cache when this returns. `slots`, unless nullptr, learns where the rows are: slots[i] in the
  // store of the key's partition, or kNoSlot.
  void Find(std::span<const HashedKey> keys, float** rows, uint32_t* slots) const;
  // Makes absent rows with their start values. Addresses are valid until the next row is made.
  void FindOrCreate(std::span<const HashedKey> keys, float** rows, uint32_t* slots);
  // A cut of the partition's rows begins or ends (RowStore::BeginCut). It must have some.
  void BeginCut(uint32_t partition, RowStore::Cut which);
  void EndCut(uint32_t partition);
  // ---- for tables larger than memory
  // Some rows are away.
  bool cold() const { return cold_stores_ > 0; }
  // Rows of these slots (kNoSlot: none) are used.
  void Use(std::span<const HashedKey> keys, const uint32_t* slots);
  RowStore::Evicted Evict(uint32_t partition, size_t most, std::span<const HashedKey> stay);
  // Rows of the partition are gone (RowStore::Erase). Answers how many.
  size_t Erase(uint32_t partition, std::span<const HashedKey> keys, bool stored);
  // Rows come back, or are known to be nowhere (RowStore::TakeBack). Keys ascend, of any partitions; `rows` is
  // [keys, stride]. Answers how many came.
  size_t TakeBack(std::span<const HashedKey> keys, std::span<const uint8_t> found, const float* rows);
  // The rows are about to change: whoever copies changed ones will find them. All slots are known.
  void Mark(std::span<const HashedKey> keys, const uint32_t* slots);
  // The rows of slots that a lookup of the same keys gave, all of them known; `floats` of each are fetched.
  void Address(std::span<const HashedKey> keys, const uint32_t* slots, size_t floats, float** rows) const;

 private:
  class Addressing;
  struct Marks {
    HashedKey last_key = 0;  // of the partition
    uint64_t* words = nullptr;
    uint64_t* changes = nullptr;
    uint8_t* uses = nullptr;
    RowStore* cut = nullptr;  // unless there is none under way
  };
  void Revisit(uint32_t partition);  // the store, which may be another or lie elsewhere
  size_t PartitionOf(HashedKey key) const {
    return static_cast<size_t>((static_cast<unsigned __int128>(key) * partition_count_) >> 64);
  }
  template <bool kNote>
  size_t Look(std::span<const HashedKey> keys, size_t floats, float** rows, uint32_t* slots) const;
  size_t LookUp(std::span<const HashedKey> keys, size_t floats, float** rows, uint32_t* slots) const;
  // Makes the rows that a lookup did not find.
  void MakeAbsent(std::span<const HashedKey> keys, float** rows, uint32_t* slots);

  const RowLayout* const layout_;
  const uint64_t partition_count_;
  std::vector<std::unique_ptr<RowStore>> stores_;  // by partition
  std::vector<RowStore::View> views_;              // of each of stores_, side by side
  std::vector<Marks> marks_;                       // likewise
  std::vector<uint8_t> is_cold_;                   // likewise: some of its rows are away
  size_t cold_stores_ = 0;
};

// Takes keys in pieces that one lookup takes: work(first, count).
template <typename Work>
void ForEachLookup(size_t key_count, Work work) {
  for (size_t first = 0; first < key_count; first += kMaxLookupKeys) {
    work(first, key_count - first < kMaxLookupKeys ? key_count - first : kMaxLookupKeys);
  }
}

}  // namespace sheaf
