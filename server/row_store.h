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
// Cold rows: a row may leave memory (Evict) and come back (TakeBack); where it is meanwhile is its owner's business.
//   The store knows how many are away, and which may be. Its slot is given to another row.
// Rows that expire (RowLayout) have a time behind their state: when they were pushed to last. It is a part of the row
//   like all others, in images and snapshots, too.
// Thread-safety: none. Ownership: owns its rows; the layout is lent and outlives it.
// DEVIATION: keys that are not uniform (a client that does not mix them) degrade lookups to walks; never wrong, only
// slow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/ids.h"
#include "compute/optim/optimizer.h"
#include "server/cold_filter.h"
#include "server/row_bucket.h"

namespace sheaf {

// What all rows of a table have in common.
struct RowLayout {
  uint32_t dim = 0;     // weights
  uint32_t stride = 0;  // weights and state, and the time of rows that expire, floats
  uint64_t seed = 0;
  double init_stddev = 0;
  uint32_t init_zero_columns = 0;
  const Optimizer* optimizer = nullptr;  // lent
  size_t slab_bytes = size_t{2} << 20;   // rows lie in slabs of so many: a huge page, or less where memory is limited
  bool counts_uses = false;              // rows may leave memory
  bool timed = false;                    // rows expire

  bool StartsAtZero() const { return init_stddev == 0 || init_zero_columns >= dim; }
  // The start value of a row: a function of seed and key only, so an absent row is answered without making it.
  void InitWeights(HashedKey key, float* weights) const;
  void InitRow(HashedKey key, float* row) const;
  // Seconds, of rows that expire.
  void SetTime(float* row, uint32_t seconds) const { std::memcpy(row + stride - 1, &seconds, sizeof(seconds)); }
  uint32_t TimeOf(const float* row) const {
    uint32_t seconds = 0;
    std::memcpy(&seconds, row + stride - 1, sizeof(seconds));
    return seconds;
  }
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
  RowStore(const RowLayout* layout, uint32_t partition_count);
  RowStore(const RowStore&) = delete;
  RowStore& operator=(const RowStore&) = delete;

  // nullptr if absent, or cold.
  float* Find(HashedKey key) const;
  // Makes the row with its start value if it is absent.
  float* FindOrCreate(HashedKey key);
  // Makes the rows of keys that have none, so many, and sets the addresses (and slots, unless nullptr) of all.
  void MakeAbsent(std::span<const HashedKey> keys, size_t absent, float** rows, uint32_t* slots);

  // Copies rows' keys and addresses in key order, from the first key >= `from`, until the vectors have `max_rows`.
  // True if nothing comes after.
  bool Scan(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys, std::vector<const float*>& rows) const;

  // ---- for rows that expire
  // Looks at so many of the rows that are here, from the first key >= `from` on, for those whose time is before
  // `before`. Then the key to go on from.
  std::optional<HashedKey> FindOlder(uint32_t before, HashedKey from, size_t most, std::vector<HashedKey>& keys) const;
  // Those of these (ascending) that are here are gone; answers how many. Not while there is a cut. `stored`: the
  // shard's store of snapshots may have them, and is to be told (TakeErased): until then it does not bring them back.
  size_t Erase(std::span<const HashedKey> keys, bool stored);
  // Those that the next snapshot is to take from the store, whether or not it has them. What the call before this one
  // gave must have been written, or be asked for again.
  std::vector<HashedKey> TakeErased();
  void AskErasedAgain() { erased_.merge(erasing_); }
  // The store may still have it, and must not be asked.
  bool IsErased(HashedKey key) const { return erased_.contains(key) || erasing_.contains(key); }

  // Another layout, equal to the one so far: the rows have come to another owner.
  void UseLayout(const RowLayout* layout) { layout_ = layout; }
  // ---- for images of the partition
  // Rows are marked that have changed since they were copied so. Which, whoever changes them says (TableRows::Mark).
  enum class Which { kAll, kMarked };
  // Appends rows [weights | state] in key order, from the first key >= `from` on, and takes marks away if it looks for
  // them. Until `max_rows` are copied, or the rows of eight times as many looked at: then the key to go on from.
  std::optional<HashedKey> Copy(Which which, HashedKey from, size_t max_rows, std::vector<HashedKey>& keys,
                                std::vector<float>& rows);
  void MarkAll();
  // All rows that are not marked are in the shard's store of snapshots.
  bool stored() const { return stored_; }
  void set_stored(bool stored) { stored_ = stored; }
  // Takes rows as they were copied, [keys, stride]: ascending, none of them is in. `more`: that so many will come.
  void Load(std::span<const HashedKey> keys, const float* rows);
  void ReserveLoad(size_t more);
  // By slot, 64 a word. Valid until the next row is made.
  uint64_t* marks() { return marks_.data(); }

  // ---- for checkpoints: all rows as of one moment, the cut, told piece by piece while they go on changing
  // kChanged: only rows that have changed since the cut before (whoever changes rows says so, as above).
  enum class Cut { kAll, kChanged };
  void BeginCut(Cut which);
  bool cutting() const { return cutting_; }
  // A row is about to change: if it is in the cut and was not told yet, it is kept as it is.
  void KeepForCut(uint32_t slot);
  // As Copy, of the rows of the cut.
  std::optional<HashedKey> CopyCut(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys,
                                   std::vector<float>& rows);
  void EndCut();
  size_t cut_rows() const { return cut_rows_; }  // in the cut
  // As marks(): rows that have changed since the last cut.
  uint64_t* changes() { return changes_.data(); }

  // ---- for tables larger than memory
  // How often rows have been used of late, by slot: whoever uses one adds kUse, up to the greatest number. A row that
  // is made or comes back has been used once. nullptr: nobody counts (RowLayout).
  uint8_t* uses() { return uses_.empty() ? nullptr : uses_.data(); }
  static constexpr uint8_t kUse = 8;
  // Which rows are used least: those that leave if so many are to. Of rows that were used as much as each other every
  // so many are chosen, not the first ones.
  struct Leavers {
    size_t most = 0;
    uint8_t uses = 0;                    // up to which they leave
    size_t with_that = 0, of_these = 0;  // with just that: how many leave, and how many there are
    size_t chosen = 0, spread = 0;       // so far

    bool Choose(uint8_t uses_of_row);
  };
  enum class Of { kAll, kUnmarked };
  Leavers LeastUsed(Of which, size_t most) const;
  // Rows that leave next, marked or not: copies, as Copy does, those of them that are marked, and takes their marks
  // away. Not those in `stay` (ascending).
  std::optional<HashedKey> CopyLeavers(Leavers& leavers, HashedKey from, size_t max_rows,
                                       std::span<const HashedKey> stay, std::vector<HashedKey>& keys,
                                       std::vector<float>& rows);
  // At most so many rows leave memory: of those that are not marked, the ones that were used least; what the others
  // were used counts a thirty-second less from now on (least frequently used, with ageing: Robinson and Devarakonda,
  // 1990, and LFU-DA). Rows in `stay` (ascending) stay. Slots are other rows' afterwards. Not while there is a cut.
  struct Evicted {
    size_t rows = 0;
    bool changed = false;  // some of them had changed since the last cut: the next one must have all rows
  };
  Evicted Evict(size_t most, std::span<const HashedKey> stay);
  size_t cold() const { return cold_; }  // rows that are away
  // False: its row is not away. Only of keys that are not found.
  bool MayBeCold(HashedKey key) const {
    return cold_ > 0 && filter_.MayContain(key) && !known_absent_.contains(key) && !IsErased(key);
  }
  // A row comes back as it was; nothing happens if it is here, or was dropped meanwhile.
  void TakeBack(HashedKey key, const float* row);
  // It was looked for where cold rows are, and is not there.
  void NoteAbsent(HashedKey key);
  // What the rows that are here take, with their part of the index: about, and without room that is free again.
  size_t used_bytes() const { return hot_ * BytesOf(*layout_) + filter_.bytes(); }
  static size_t BytesOf(const RowLayout& layout) { return layout.stride * sizeof(float) + kIndexBytesARow; }

  size_t size() const { return hot_ + cold_; }  // rows that there are, here or away
  size_t hot() const { return hot_; }           // rows that are here
  size_t memory_bytes() const { return memory_bytes_ + filter_.bytes(); }

  // What a lookup needs of a store; of none by default. Valid until the next row is made. A row keeps its slot as long
  // as it is here.
  struct View {
    const RowBucket* buckets = &kNowhere;
    uint64_t homes = 0;
    float* first_slab = nullptr;  // which is all that most stores have
    const Pages* slabs = nullptr;

    // `place` is the low half of key * partitions: how far into its partition's range a key lies, in units of 2^-64.
    const RowBucket* Home(uint64_t place) const {
      return buckets + static_cast<size_t>((static_cast<unsigned __int128>(place) * homes) >> 64);
    }
  };
  View view() const {
    return home_count_ == 0 ? View() : View{buckets(), home_count_, slabs_[0].as<float>(), slabs_.data()};
  }
  // A slab has 2^SlabBits slots; a store's first may have fewer.
  static int SlabBits(const RowLayout& layout);

 private:
  float* Row(uint32_t slot) const {
    return slabs_[slot >> slab_bits_].as<float>() + size_t{slot & ((uint32_t{1} << slab_bits_) - 1)} * layout_->stride;
  }
  RowBucket* buckets() const { return index_.as<RowBucket>(); }
  size_t Home(HashedKey key) const {
    return static_cast<size_t>((static_cast<unsigned __int128>(key * partition_count_) * home_count_) >> 64);
  }
  uint32_t SlotOf(HashedKey key) const;
  // Copy and CopyCut: `choose` gives the row of a key and slot as it is to be copied, or nullptr.
  template <typename Choose>
  std::optional<HashedKey> CopyChosen(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys,
                                      std::vector<float>& rows, Choose choose);
  static constexpr size_t kIndexBytesARow = 24;
  static constexpr size_t kMostKnownAbsent = 65536;
  uint32_t TakeSlot();
  void ClearBits(uint32_t slot);  // of marks and changes
  // Rows are closer together, and the rest of their memory is given back.
  void Shrink();
  size_t SlotsFor(size_t rows) const;
  // There is room for so many more rows, without a row being moved.
  void Reserve(size_t rows);
  uint32_t Insert(HashedKey key);
  uint32_t InsertSlot(HashedKey key);  // whose row is not initialised
  void Rebuild(size_t homes, size_t tail);
  // Of all rows, in key order: those for which it is true leave the index. Cells move towards the beginning, over those
  // that go.
  template <typename Leaves>
  void Sift(Leaves leaves);

  const RowLayout* layout_;
  uint64_t partition_count_;
  int slab_bits_;
  size_t home_count_ = 0;  // buckets that are homes
  // And the tail behind them, into which the last keys run over; one empty bucket more is behind.
  size_t bucket_count_ = 0;
  Pages index_;
  std::vector<Pages> slabs_;
  std::vector<uint64_t> marks_;
  bool stored_ = false;
  std::vector<uint64_t> changes_;
  bool cutting_ = false;
  std::vector<uint64_t> cut_;  // slots of rows to be told, as they are
  size_t cut_rows_ = 0;
  std::unordered_map<uint32_t, size_t> kept_;  // slots of rows to be told as they were: where in kept_rows_
  std::vector<float> kept_rows_;
  size_t slot_count_ = 0;  // slots in slabs
  size_t used_slots_ = 0;  // that a row has, or had
  std::vector<uint32_t> free_slots_;  // of those, that have none; they are given away first
  size_t hot_ = 0;
  size_t cold_ = 0;
  bool cut_has_all_ = false;  // a row that comes back is in the cut
  std::vector<uint8_t> uses_;
  ColdFilter filter_;                            // of rows that were away once
  std::unordered_set<HashedKey> known_absent_;  // that the filter is wrong about
  std::unordered_set<HashedKey> erased_, erasing_;  // before and after TakeErased
  size_t memory_bytes_ = 0;
};

}  // namespace sheaf
