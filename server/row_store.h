// The rows of one table in one partition: weights and optimizer state beside each other, found by hashed key.
//
// Index: cells sorted by key, with gaps; a key's home is its place within the partition's range (hashed keys are
//   uniform), so a sorted batch walks the index in memory order, a lookup probes forward from home, and a scan is a
//   walk. (Linear probing with ordered cells: Amble and Knuth, "Ordered hash tables", 1974; with an order-preserving
//   hash.)
// Rows: slots of slabs, [weights | state], addresses stable until the store is dropped. Slabs grow geometrically to a
//   bound, so an empty store costs nothing and a tiny one stays tiny.
// Memory: key + row + 12 / load bytes a row (load 0.57..0.8): under 1.3 times key and row for 16 floats with Adagrad.
// Thread-safety: none. Ownership: owns its rows; the layout is lent and outlives it.
// DEVIATION: keys that are not uniform (a client that does not mix them) degrade lookups to walks; never wrong, only
// slow.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/ids.h"
#include "compute/optim/optimizer.h"

namespace sheaf {

// What all rows of a table have in common.
struct RowLayout {
  uint32_t dim = 0;                      // weights
  uint32_t stride = 0;                   // weights and state, floats
  uint64_t seed = 0;
  double init_stddev = 0;
  uint32_t init_zero_columns = 0;
  const Optimizer* optimizer = nullptr;  // lent

  // The start value of a row: a function of seed and key only, so an absent row is answered without making it.
  void InitWeights(HashedKey key, float* weights) const;
  void InitRow(HashedKey key, float* row) const;
};

// Memory from the heap, uninitialised; large pieces lie on huge pages where the system has them.
class Pages {
 public:
  Pages() = default;
  Pages(size_t bytes, size_t alignment);

  template <typename T>
  T* as() const { return reinterpret_cast<T*>(data_.get()); }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t bytes_ = 0;
};

class RowStore {
 public:
  static constexpr int kFirstSlabBits = 2;  // slots of the first slab: 4

  RowStore(const RowLayout* layout, uint32_t partition_count);
  RowStore(const RowStore&) = delete;
  RowStore& operator=(const RowStore&) = delete;

  // nullptr if absent.
  float* Find(HashedKey key) const {
    if (capacity_ == 0) return nullptr;
    const size_t at = Probe(key);
    return at < cell_count_ && cells()[at].holds(key) ? Row(cells()[at].slot) : nullptr;
  }
  // Makes the row with its start value if it is absent.
  float* FindOrCreate(HashedKey key);

  // Copies rows' keys and addresses in key order, from the first key >= `from`, until the vectors have `max_rows`.
  // True if nothing comes after.
  bool Scan(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys, std::vector<const float*>& rows) const;

  const RowLayout& layout() const { return *layout_; }
  size_t size() const { return size_; }
  size_t memory_bytes() const { return memory_bytes_; }

  // For the batched lookups below: fetches the cells that Probe looks at into the cache. Always inlined: g++ takes a
  // function that only prefetches for one without effect, and leaves calls of it out.
  [[gnu::always_inline]] void PrefetchCells(HashedKey key) const {
    if (capacity_ == 0) return;
    const Cell* home = cells() + Home(key);
    __builtin_prefetch(home);
    __builtin_prefetch(reinterpret_cast<const char*>(home + kProbe) - 1);  // often on the next line
  }

 private:
  // 12 bytes, so that eight-byte keys are not padded to 16.
  struct Cell {
    uint32_t key_low;
    uint32_t key_high;
    uint32_t slot;

    HashedKey key() const { return (uint64_t{key_high} << 32) | key_low; }  // of an empty cell: the greatest
    bool empty() const { return slot == kNoSlot; }
    bool holds(HashedKey wanted) const { return key() == wanted && !empty(); }
  };
  static constexpr uint32_t kNoSlot = ~uint32_t{0};
  static constexpr size_t kProbe = 4;     // the tail is at least as long

  Cell* cells() const { return index_.as<Cell>(); }
  // The low half of key * P is how far into its partition's range a key lies, in units of 2^-64.
  size_t Home(HashedKey key) const {
    return static_cast<size_t>((static_cast<unsigned __int128>(key * partition_count_) * capacity_) >> 64);
  }
  // The cell that holds `key`, or the one it would go into: empty, or of the next greater key, or the end. How far a
  // key lies from its home is hard to predict, so the first kProbe cells are compared without a branch: behind an empty
  // cell only greater keys follow, so the count of smaller ones is the way to go.
  size_t Probe(HashedKey key) const {
    const Cell* home = cells() + Home(key);
    size_t smaller = 0;
    for (size_t i = 0; i < kProbe; ++i) smaller += home[i].key() < key;
    size_t at = static_cast<size_t>(home - cells()) + smaller;
    if (smaller < kProbe) [[likely]] return at;
    while (at < cell_count_ && cells()[at].key() < key) ++at;
    return at;
  }
  // Slab i has 2^(kFirstSlabBits + i) slots up to 2^max_slab_bits_, then so many each: with the first slab's size
  // added, the slot's top bit names a growing slab.
  float* Row(uint32_t slot) const {
    const size_t shifted = size_t{slot} + (size_t{1} << kFirstSlabBits);
    size_t slab = 0;
    size_t offset = 0;
    if (shifted >> (max_slab_bits_ + 1) == 0) {
      const int top = static_cast<int>(std::bit_width(shifted)) - 1;
      slab = static_cast<size_t>(top - kFirstSlabBits);
      offset = shifted - (size_t{1} << top);
    } else {
      slab = static_cast<size_t>(max_slab_bits_ - kFirstSlabBits) + (shifted >> max_slab_bits_) - 1;
      offset = shifted & ((size_t{1} << max_slab_bits_) - 1);
    }
    return slabs_[slab].as<float>() + offset * layout_->stride;
  }
  float* Insert(HashedKey key, size_t at);
  uint32_t TakeSlot();
  void Rebuild(size_t capacity, size_t tail);

  const RowLayout* layout_;
  uint64_t partition_count_;
  int max_slab_bits_;       // the largest slab has 2^max_slab_bits_ slots
  size_t capacity_ = 0;     // homes
  size_t cell_count_ = 0;   // homes and the tail behind them, into which the last cells run over
  Pages index_;
  std::vector<Pages> slabs_;
  size_t slot_count_ = 0;   // slots in slabs
  size_t size_ = 0;
  size_t memory_bytes_ = 0;
};

// Lookups of several stores in one pipeline: cells and rows are fetched into the cache ahead of their use, so the
// memory's latencies overlap (group prefetching: Chen et al., ICDE 2004). rows[i] belongs to the i-th key of all
// sections.
struct RowSection {
  RowStore* store;
  std::span<const HashedKey> keys;   // ascending, within the store's partition
};
// rows[i] is nullptr for an absent row (and for all of a section without a store).
void FindRows(std::span<const RowSection> sections, float** rows);
void FindOrCreateRows(std::span<const RowSection> sections, float** rows);

}  // namespace sheaf
