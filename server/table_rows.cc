#include "server/table_rows.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/partition.h"
#include "server/row_bucket.h"

namespace sheaf {
namespace {

// How many keys ahead buckets are fetched: about the misses that a core can have outstanding.
constexpr size_t kAhead = 24;

}  // namespace

// Addresses of rows, and asks for their memory.
class TableRows::Addressing {
 public:
  // `floats` of each row are fetched.
  Addressing(const RowLayout& layout, size_t floats)
      : bits_(RowStore::SlabBits(layout)), mask_((uint32_t{1} << bits_) - 1), stride_(layout.stride),
        bytes_(std::min(floats * sizeof(float), 4 * kCacheLine)) {}

  float* operator()(const RowStore::View& view, uint32_t slot) const {
    float* const row = slot <= mask_ ? view.first_slab + slot * stride_
                                     : view.slabs[slot >> bits_].as<float>() + (slot & mask_) * stride_;
    const char* const line = reinterpret_cast<const char*>(row);
    __builtin_prefetch(line, 1);
    if (bytes_ > 2 * sizeof(float)) [[unlikely]] {
      for (size_t at = kCacheLine; at < bytes_; at += kCacheLine) __builtin_prefetch(line + at, 1);
      __builtin_prefetch(line + bytes_ - 1, 1);  // rows need not begin on cache lines
    }
    return row;
  }

 private:
  const int bits_;
  const uint32_t mask_;
  const size_t stride_;
  const size_t bytes_;  // of long rows only the beginning: the hardware sees the pattern and follows
};

TableRows::TableRows(const RowLayout* layout, uint32_t partition_count)
    : layout_(layout), partition_count_(partition_count), stores_(partition_count), views_(partition_count),
      marks_(partition_count), is_cold_(partition_count) {
  for (uint32_t p = 0; p < partition_count; ++p) marks_[p].last_key = PartitionLastKey(PartitionId(p), partition_count);
}

void TableRows::Put(uint32_t partition, std::unique_ptr<RowStore> store) {
  if (store != nullptr) store->UseLayout(layout_);
  stores_[partition] = std::move(store);
  Revisit(partition);
}

void TableRows::Revisit(uint32_t partition) {
  RowStore* const store = stores_[partition].get();
  views_[partition] = store == nullptr ? RowStore::View() : store->view();
  Marks& marks = marks_[partition];
  marks.words = store == nullptr ? nullptr : store->marks();
  marks.changes = store == nullptr ? nullptr : store->changes();
  marks.uses = store == nullptr ? nullptr : store->uses();
  marks.cut = store != nullptr && store->cutting() ? store : nullptr;
  const bool cold = store != nullptr && store->cold() > 0;
  cold_stores_ += cold;
  cold_stores_ -= is_cold_[partition];
  is_cold_[partition] = cold;
}

void TableRows::Use(std::span<const HashedKey> keys, const uint32_t* slots) {
  for (size_t i = 0; i < keys.size();) {
    const Marks& marks = marks_[PartitionOf(keys[i])];
    do {
      if (slots[i] != kNoSlot) {
        uint8_t& uses = marks.uses[slots[i]];
        uses = static_cast<uint8_t>(std::min(uses + RowStore::kUse, UINT8_MAX));
      }
      ++i;
    } while (i < keys.size() && keys[i] <= marks.last_key);
  }
}

RowStore::Evicted TableRows::Evict(uint32_t partition, size_t most, std::span<const HashedKey> stay) {
  const RowStore::Evicted evicted = stores_[partition]->Evict(most, stay);
  Revisit(partition);
  return evicted;
}

size_t TableRows::Erase(uint32_t partition, std::span<const HashedKey> keys, bool stored) {
  const size_t gone = stores_[partition] == nullptr ? 0 : stores_[partition]->Erase(keys, stored);
  Revisit(partition);
  return gone;
}

size_t TableRows::TakeBack(std::span<const HashedKey> keys, std::span<const uint8_t> found, const float* rows) {
  size_t came = 0;
  for (size_t i = 0; i < keys.size();) {
    const auto partition = static_cast<uint32_t>(PartitionOf(keys[i]));
    const HashedKey last = marks_[partition].last_key;
    RowStore* const store = stores_[partition].get();
    const size_t before = store == nullptr ? 0 : store->hot();
    for (; i < keys.size() && keys[i] <= last; ++i) {
      if (store == nullptr) continue;
      if (found[i] != 0) {
        store->TakeBack(keys[i], rows + i * layout_->stride);
      } else {
        store->NoteAbsent(keys[i]);
      }
    }
    if (store == nullptr) continue;
    came += store->hot() - before;
    Revisit(partition);
  }
  return came;
}

void TableRows::BeginCut(uint32_t partition, RowStore::Cut which) {
  stores_[partition]->BeginCut(which);
  Revisit(partition);
}

void TableRows::EndCut(uint32_t partition) {
  stores_[partition]->EndCut();
  Revisit(partition);
}

void TableRows::Mark(std::span<const HashedKey> keys, const uint32_t* slots) {
  for (size_t i = 0; i < keys.size();) {
    const Marks& marks = marks_[PartitionOf(keys[i])];
    uint64_t* const words = marks.words;
    uint64_t* const changes = marks.changes;
    const HashedKey last = marks.last_key;
    do {
      const uint64_t bit = uint64_t{1} << (slots[i] % 64);
      words[slots[i] / 64] |= bit;
      changes[slots[i] / 64] |= bit;
      if (marks.cut != nullptr) [[unlikely]] marks.cut->KeepForCut(slots[i]);
      ++i;
    } while (i < keys.size() && keys[i] <= last);
  }
}

std::unique_ptr<RowStore> TableRows::Take(uint32_t partition) {
  std::unique_ptr<RowStore> store = std::move(stores_[partition]);
  if (store != nullptr && store->cutting()) store->EndCut();  // what follows is nobody's cut
  Revisit(partition);
  return store;
}

template <bool kNote>
size_t TableRows::Look(std::span<const HashedKey> keys, size_t floats, float** rows, uint32_t* slots) const {
  const RowBucket* homes[kMaxLookupKeys + kAhead];
  const RowStore::View* const views = views_.data();
  const size_t count = keys.size();
  for (size_t i = 0; i < count; ++i) homes[i] = views[PartitionOf(keys[i])].Home(keys[i] * partition_count_);
  std::fill_n(homes + count, kAhead, nullptr);  // which may be prefetched
  for (size_t i = 0; i < std::min(count, kAhead); ++i) __builtin_prefetch(homes[i]);
  const Addressing address(*layout_, floats);
  size_t absent = 0;
  for (size_t i = 0; i < count; ++i) {
    __builtin_prefetch(homes[i + kAhead]);
    const uint32_t slot = RowBucket::SlotOf(keys[i], homes[i]);
    if constexpr (kNote) slots[i] = slot;
    if (slot == kNoSlot) {
      rows[i] = nullptr;
      ++absent;
      continue;
    }
    rows[i] = address(views[PartitionOf(keys[i])], slot);
  }
  return absent;
}

size_t TableRows::LookUp(std::span<const HashedKey> keys, size_t floats, float** rows, uint32_t* slots) const {
  SHEAF_CHECK(keys.size() <= kMaxLookupKeys, "a lookup of ", keys.size(), " keys");
  return slots == nullptr ? Look<false>(keys, floats, rows, slots) : Look<true>(keys, floats, rows, slots);
}

void TableRows::Find(std::span<const HashedKey> keys, float** rows, uint32_t* slots) const {
  LookUp(keys, layout_->dim, rows, slots);
}

void TableRows::FindOrCreate(std::span<const HashedKey> keys, float** rows, uint32_t* slots) {
  if (LookUp(keys, layout_->stride, rows, slots) > 0) MakeAbsent(keys, rows, slots);
}

void TableRows::MakeAbsent(std::span<const HashedKey> keys, float** rows, uint32_t* slots) {
  for (size_t begin = 0; begin < keys.size();) {
    const auto partition = static_cast<uint32_t>(PartitionOf(keys[begin]));
    const HashedKey last = PartitionLastKey(PartitionId(partition), static_cast<uint32_t>(partition_count_));
    size_t end = begin, absent = 0;
    for (; end < keys.size() && keys[end] <= last; ++end) absent += rows[end] == nullptr;
    if (absent > 0) {
      std::unique_ptr<RowStore>& store = stores_[partition];
      if (store == nullptr) store = std::make_unique<RowStore>(layout_, static_cast<uint32_t>(partition_count_));
      store->MakeAbsent(keys.subspan(begin, end - begin), absent, rows + begin,
                        slots == nullptr ? nullptr : slots + begin);
      Revisit(partition);
    }
    begin = end;
  }
}

void TableRows::Address(std::span<const HashedKey> keys, const uint32_t* slots, size_t floats, float** rows) const {
  const Addressing address(*layout_, floats);
  const RowStore::View* const views = views_.data();
  for (size_t i = 0; i < keys.size(); ++i) rows[i] = address(views[PartitionOf(keys[i])], slots[i]);
}

}  // namespace sheaf
