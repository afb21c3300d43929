// The rows of one table in one partition: weights and optimizer state beside each other, found by hashed key.
//
// Index: buckets of one cache line, five keys and the slots of their rows, sorted by key over all buckets, with gaps at
//   buckets' ends. A key's home bucket is its place within the partition's range (hashed keys are uniform), so a sorted
//   batch walks the index in memory order, a lookup goes forward from home, and a scan is a walk. (Linear probing with
//   ordered cells: Amble and Knuth, "Ordered hash tables", 1974; with an order-preserving hash, and buckets, so that
//   one line nearly always answers.)
// Rows: slots of slabs, [weights | state]. All slabs have one size, so that a slot's address is a shift and a mask.
//   Only the first grows, by doubling, until it has that size, so a tiny store stays tiny. Its growth moves rows:
//   addresses are valid until the next row is made.
// Memory: key + row + 12.8 / load bytes a row (load 0.45..0.6): under 1.3 times key and row for 16 floats with Adagrad.
// Thread-safety: none. Ownership: owns its rows; the layout is lent and outlives it.
// DEVIATION: keys that are not uniform (a client that does not mix them) degrade lookups to walks; never wrong, only
// slow.
#pragma once

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
  uint32_t dim = 0;     // weights
  uint32_t stride = 0;  // weights and state, floats
  uint64_t seed = 0;
  double init_stddev = 0;
  uint32_t init_zero_columns = 0;
  const Optimizer* optimizer = nullptr;  // lent

  // The start value of a row: a function of seed and key only, so an absent row is answered without making it.
  void InitWeights(HashedKey key, float* weights) const;
  void InitRow(HashedKey key, float* row) const;
};

// Memory, uninitialised; from 1 MiB on it is mapped by itself, on huge pages where the system has them.
class Pages {
 public:
  Pages() = default;
  Pages(size_t bytes, size_t alignment);
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&& other) noexcept;
  ~Pages();

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }  // asked for, rounded up to what was taken

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

class RowStore {
 public:
  static constexpr uint32_t kNoSlot = ~uint32_t{0};

  RowStore(const RowLayout* layout, uint32_t partition_count);
  RowStore(const RowStore&) = delete;
  RowStore& operator=(const RowStore&) = delete;

  // nullptr if absent.
  float* Find(HashedKey key) const;
  // Makes the row with its start value if it is absent.
  float* FindOrCreate(HashedKey key);

  // Copies rows' keys and addresses in key order, from the first key >= `from`, until the vectors have `max_rows`.
  // True if nothing comes after.
  bool Scan(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys, std::vector<const float*>& rows) const;

  const RowLayout& layout() const { return *layout_; }
  size_t size() const { return size_; }
  size_t memory_bytes() const { return memory_bytes_; }

  // The steps of the batched lookups below.
  struct Bucket;
  // Where each key is looked for.
  void StartLookup(std::span<const HashedKey> keys, const Bucket** homes) const;
  // The keys' rows, nullptr if absent; answers how many are. `floats` of each row are on the way into the cache when
  // this returns, and so are homes a little further on: `homes` goes on behind those of `keys` with what is next.
  // `slots` may be nullptr; else it learns where the rows are, for AddressRows.
  size_t FinishLookup(std::span<const HashedKey> keys, const Bucket* const* homes, size_t floats, float** rows,
                      uint32_t* slots) const;
  // Makes the rows of keys that have none, so many, and sets the addresses (and slots) of all.
  void MakeAbsent(std::span<const HashedKey> keys, size_t absent, float** rows, uint32_t* slots);
  // The rows of slots that a lookup gave, fetched as there. A row keeps its slot as long as there is a store.
  void AddressRows(std::span<const uint32_t> slots, size_t floats, float** rows) const;
  // How far ahead of a key FinishLookup fetches homes: about the misses that a core can have outstanding.
  static constexpr size_t kAhead = 24;

 private:
  static const Bucket kNowhere;  // where everything is looked for that has no index

  float* Row(uint32_t slot) const {
    return slabs_[slot >> slab_bits_].as<float>() + size_t{slot & ((uint32_t{1} << slab_bits_) - 1)} * layout_->stride;
  }
  Bucket* buckets() const { return index_.as<Bucket>(); }
  // The low half of key * P is how far into its partition's range a key lies, in units of 2^-64.
  size_t Home(HashedKey key) const {
    return static_cast<size_t>((static_cast<unsigned __int128>(key * partition_count_) * home_count_) >> 64);
  }
  uint32_t SlotOf(HashedKey key) const;
  // Addresses of rows, and asks for their memory.
  class Addressing;
  template <bool kNote>
  size_t Look(std::span<const HashedKey> keys, const Bucket* const* homes, Addressing addressing, float** rows,
              uint32_t* slots) const;
  // There is room for so many more rows, without a row being moved.
  void Reserve(size_t rows);
  uint32_t Insert(HashedKey key);
  void Rebuild(size_t homes, size_t tail);

  const RowLayout* layout_;
  uint64_t partition_count_;
  int slab_bits_;          // a slab has 2^slab_bits_ slots; the first may have fewer
  size_t home_count_ = 0;  // buckets that are homes
  // And the tail behind them, into which the last keys run over; one empty bucket more is behind.
  size_t bucket_count_ = 0;
  Pages index_;
  std::vector<Pages> slabs_;
  size_t slot_count_ = 0;  // slots in slabs
  size_t size_ = 0;
  size_t memory_bytes_ = 0;
};

// Lookups of at most so many keys of several stores: cells and rows are fetched into the cache ahead of their use, so
// the memory's latencies overlap (group prefetching: Chen et al., ICDE 2004). rows[i] belongs to the i-th key of all
// sections.
inline constexpr size_t kMaxLookupKeys = 512;  // their rows fit into the second-level cache
struct RowSection {
  RowStore* store = nullptr;
  std::span<const HashedKey> keys = {};  // ascending, within the store's partition
  uint32_t* slots = nullptr;             // of the keys, to be learnt; or nullptr
  bool known = false;                    // the slots are known: nothing has to be looked up. For all sections or none

  RowSection First(size_t count) const { return {store, keys.first(count), slots, known}; }
  RowSection From(size_t first) const {
    return {store, keys.subspan(first), slots == nullptr ? nullptr : slots + first, known};
  }
};
// A store is in one section only: making rows of it a second time could move those found before.
// rows[i] is nullptr for an absent row (and for all of a section without a store).
void FindRows(std::span<const RowSection> sections, float** rows);
void FindOrCreateRows(std::span<const RowSection> sections, float** rows);

}  // namespace sheaf
