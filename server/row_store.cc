#include "server/row_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "common/base/check.h"
#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr size_t kPage = size_t{4} << 10;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHugeFrom = kHugePage / 2;  // what is this large is mapped by itself
constexpr size_t kCacheLine = 64;
constexpr size_t kMinHomes = 2;  // buckets
constexpr size_t kMinTail = 2;
constexpr size_t kLongRun = 32;   // buckets
constexpr size_t kMaxSpread = 2;  // rows a home bucket, at least
constexpr size_t kMinSlabRows = 4;
constexpr size_t kMaxSlabBytes = size_t{2} << 20;  // a huge page

int SlabBits(uint32_t stride) {
  const size_t fit = kMaxSlabBytes / (size_t{stride} * sizeof(float));
  return static_cast<int>(std::bit_width(std::max(fit, kMinSlabRows))) - 1;
}

// A normal deviate with mean 0 and deviation 1 from two draws: the sum of eight 16-bit uniforms. Integers until the
// last multiplication, so that it is the same everywhere, which the logarithm of Box-Muller is not.
double CheapGaussian(Random& random) {
  int64_t sum = 0;
  for (int draw = 0; draw < 2; ++draw) {
    const uint64_t bits = random.Next();
    sum += static_cast<int64_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48));
  }
  constexpr int64_t kTwiceMean = 8 * 65535;
  constexpr double kDeviation = 53509.92;  // sqrt(8 * (65536^2 - 1) / 12), rounded: the same literal everywhere
  return static_cast<double>(2 * sum - kTwiceMean) * (0.5 / kDeviation);
}

// The slots of a batch. One group's cells are fetched while those of the group before are looked at.
void FindSlots(std::span<const RowSection> sections, uint32_t* slots) {
  constexpr size_t kGroup = 32;  // twice as many cells on their way: about the misses a core can have outstanding
  struct Group {
    const RowStore* store = nullptr;
    std::span<const HashedKey> keys = {};
    size_t homes[kGroup];
    uint32_t* slots = nullptr;
  } groups[2];
  size_t turn = 0;
  size_t first = 0;
  for (const RowSection& section : sections) {
    SHEAF_CHECK(first + section.keys.size() <= kMaxLookupKeys, "a lookup of too many keys");
    if (section.store == nullptr) {
      std::fill_n(slots + first, section.keys.size(), RowStore::kNoSlot);
      first += section.keys.size();
      continue;
    }
    for (size_t at = 0; at < section.keys.size(); at += kGroup) {
      Group& next = groups[turn];
      const Group& before = groups[turn ^= 1];
      next.store = section.store;
      next.keys = section.keys.subspan(at, std::min(kGroup, section.keys.size() - at));
      next.slots = slots + first;
      next.store->StartLookup(next.keys, next.homes);
      if (before.store != nullptr) before.store->FinishLookup(before.keys, before.homes, before.slots);
      first += next.keys.size();
    }
  }
  const Group& last = groups[turn ^ 1];
  if (last.store != nullptr) last.store->FinishLookup(last.keys, last.homes, last.slots);
}

}  // namespace

void RowLayout::InitWeights(HashedKey key, float* weights) const {
  const uint32_t zeros = init_stddev == 0 ? dim : std::min(init_zero_columns, dim);
  std::fill_n(weights, zeros, 0.0f);
  if (zeros == dim) return;
  Random random(MixPair(seed, key));
  for (uint32_t i = zeros; i < dim; ++i) weights[i] = static_cast<float>(init_stddev * CheapGaussian(random));
}

void RowLayout::InitRow(HashedKey key, float* row) const {
  InitWeights(key, row);
  optimizer->InitState(row, dim);
}

Pages::Pages(size_t bytes, size_t alignment) : bytes_(bytes) {
  if (bytes < kHugeFrom) {
    data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
    if (data_ == nullptr) throw std::bad_alloc();
    return;
  }
  // Straight from the system, at a huge page's begin: the heap would put it at any address.
  bytes_ = (bytes + kPage - 1) / kPage * kPage;
  const size_t mapped = bytes_ + kHugePage;
  void* const map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) throw std::bad_alloc();
  auto* const begin = static_cast<std::byte*>(map);
  auto* const aligned =
      reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(begin) + kHugePage - 1) / kHugePage * kHugePage);
  if (aligned > begin) munmap(begin, static_cast<size_t>(aligned - begin));
  if (const size_t rest = static_cast<size_t>(begin + mapped - (aligned + bytes_)); rest > 0)
    munmap(aligned + bytes_, rest);
  madvise(aligned, bytes_, MADV_HUGEPAGE);  // a wish: nothing depends on it
  data_ = aligned;
}

Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Pages::~Pages() {
  if (bytes_ < kHugeFrom) {
    std::free(data_);
  } else {
    munmap(data_, bytes_);
  }
}

RowStore::RowStore(const RowLayout* layout, uint32_t partition_count)
    : layout_(layout), partition_count_(partition_count), slab_bits_(SlabBits(layout->stride)) {}

void RowStore::Reserve(size_t rows) {
  SHEAF_CHECK(size_ + rows < kNoSlot, "2^32 rows in one table's partition");
  const size_t full = size_t{1} << slab_bits_;
  while (slot_count_ < size_ + rows) {
    if (slot_count_ >= full) {
      slabs_.emplace_back(full * layout_->stride * sizeof(float), kCacheLine);
      memory_bytes_ += slabs_.back().bytes();
      slot_count_ += full;
      continue;
    }
    size_t grown = std::min(full, std::bit_ceil(std::max(size_ + rows, kMinSlabRows)));
    if (grown * layout_->stride * sizeof(float) >= kHugeFrom) grown = full;
    Pages slab(grown * layout_->stride * sizeof(float), kCacheLine);
    memory_bytes_ += slab.bytes();
    if (slabs_.empty()) {
      slabs_.push_back(std::move(slab));
    } else {
      std::memcpy(slab.as<float>(), slabs_[0].as<float>(), size_ * layout_->stride * sizeof(float));
      memory_bytes_ -= slabs_[0].bytes();
      slabs_[0] = std::move(slab);
    }
    slot_count_ = grown;
  }
}

float* RowStore::Find(HashedKey key) const {
  if (home_count_ == 0) return nullptr;
  const uint32_t slot = Probe(key, Home(key)).SlotOf(key);
  return slot == kNoSlot ? nullptr : Row(slot);
}

float* RowStore::FindOrCreate(HashedKey key) {
  if (float* row = Find(key)) return row;
  Reserve(1);
  return Row(Insert(key));
}

void RowStore::StartLookup(std::span<const HashedKey> keys, size_t* homes) const {
  if (home_count_ == 0) return;
  for (size_t i = 0; i < keys.size(); ++i) {
    homes[i] = Home(keys[i]);
    __builtin_prefetch(buckets() + homes[i]);
  }
}

void RowStore::FinishLookup(std::span<const HashedKey> keys, const size_t* homes, uint32_t* slots) const {
  if (home_count_ == 0) {
    std::fill_n(slots, keys.size(), kNoSlot);
    return;
  }
  for (size_t i = 0; i < keys.size(); ++i) slots[i] = Probe(keys[i], homes[i]).SlotOf(keys[i]);
}

void RowStore::MakeAbsent(std::span<const HashedKey> keys, uint32_t* slots) {
  const auto absent = static_cast<size_t>(std::count(slots, slots + keys.size(), kNoSlot));
  if (absent == 0) return;
  Reserve(absent);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (slots[i] == kNoSlot) slots[i] = Insert(keys[i]);
  }
}

void RowStore::StartRows(std::span<const uint32_t> slots, size_t floats, float** rows) const {
  const Pages* const slabs = slabs_.data();
  const int bits = slab_bits_;
  const uint32_t mask = (uint32_t{1} << bits) - 1;
  const size_t stride = layout_->stride;
  // Of long rows only the beginning: the hardware sees the pattern and follows.
  const size_t bytes = std::min<size_t>(floats * sizeof(float), 4 * kCacheLine);
  for (size_t i = 0; i < slots.size(); ++i) {
    const uint32_t slot = slots[i];
    if (slot == kNoSlot) {
      rows[i] = nullptr;
      continue;
    }
    float* const row = slabs[slot >> bits].as<float>() + (slot & mask) * stride;
    rows[i] = row;
    const char* const line = reinterpret_cast<const char*>(row);
    for (size_t at = 0; at < bytes; at += kCacheLine) __builtin_prefetch(line + at, 1);
    if (bytes > 2 * sizeof(float)) __builtin_prefetch(line + bytes - 1, 1);  // rows need not begin on cache lines
  }
}

// Of a key that is not in. There is a slot free.
uint32_t RowStore::Insert(HashedKey key) {
  // Grows by a third when six in ten cells are full: with more, too many keys would not lie in their home bucket.
  if ((size_ + 1) * 10 > home_count_ * kBucketCells * 6) {
    Rebuild(std::max(kMinHomes, home_count_ + (home_count_ + 2) / 3), bucket_count_ - home_count_);
  }
  const size_t home = Home(key);
  size_t at = home;
  size_t cell = buckets()[at].CountBelow(key);
  while (cell == kBucketCells) cell = buckets()[++at].CountBelow(key);
  size_t gap = at;
  while (buckets()[gap].full()) ++gap;
  if (gap == bucket_count_) {
    Rebuild(home_count_, (bucket_count_ - home_count_) * 2);
    return Insert(key);
  }
  // A long run: the keys so far crowd in a part of the range, as those of a sorted load do. More room keeps runs short.
  if (gap - home > kLongRun && home_count_ * kMaxSpread <= size_) {
    Rebuild(home_count_ * 2, bucket_count_ - home_count_);
    return Insert(key);
  }
  const auto slot = static_cast<uint32_t>(size_++);
  Cell coming{static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), slot};
  for (;; ++at, cell = 0) {  // each full bucket's last cell goes on to the next bucket
    Cell* const cells = buckets()[at].cells;
    const Cell last = cells[kBucketCells - 1];
    std::memmove(cells + cell + 1, cells + cell, (kBucketCells - 1 - cell) * sizeof(Cell));
    cells[cell] = coming;
    if (last.empty()) break;
    coming = last;
  }
  layout_->InitRow(key, Row(slot));
  return slot;
}

// Cells come in order and go out in order: each to its home, or behind the one before.
void RowStore::Rebuild(size_t homes, size_t tail) {
  tail = std::max(tail, kMinTail);
  const Pages old = std::move(index_);
  const size_t old_count = bucket_count_;
  while (true) {
    size_t bytes = (homes + tail + 1) * sizeof(Bucket);
    if (const size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
        whole <= bytes + bytes / 4) {  // huge pages, filled
      bytes = whole;
      homes = bytes / sizeof(Bucket) - tail - 1;
    }
    Pages fresh(bytes, kCacheLine);
    std::memset(static_cast<void*>(fresh.as<Bucket>()), 0xff, bytes);
    home_count_ = homes;
    bucket_count_ = homes + tail;
    size_t bucket = 0, cell = 0;
    bool fits = true;
    for (size_t i = 0; i < old_count && fits; ++i) {
      for (const Cell& moved : old.as<Bucket>()[i].cells) {
        if (moved.empty()) break;
        const size_t home = Home(moved.key());
        if (home > bucket || cell == kBucketCells) {
          bucket = std::max(home, bucket + (cell == kBucketCells));
          cell = 0;
        }
        fits = bucket < bucket_count_;
        if (!fits) break;
        fresh.as<Bucket>()[bucket].cells[cell++] = moved;
      }
    }
    if (fits) {
      index_ = std::move(fresh);
      memory_bytes_ += index_.bytes() - old.bytes();
      return;
    }
    tail *= 2;
  }
}

bool RowStore::Scan(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys,
                    std::vector<const float*>& rows) const {
  if (home_count_ == 0) return true;
  // Buckets before a key's home hold smaller keys only.
  for (size_t at = Home(from); at < bucket_count_; ++at) {
    for (const Cell& cell : buckets()[at].cells) {
      if (cell.empty() || cell.key() < from) continue;
      if (rows.size() == max_rows) return false;
      keys.push_back(cell.key());
      rows.push_back(Row(cell.slot));
    }
  }
  return true;
}

void FindRows(std::span<const RowSection> sections, float** rows) {
  uint32_t slots[kMaxLookupKeys];
  FindSlots(sections, slots);
  size_t first = 0;
  for (const RowSection& section : sections) {
    const size_t count = section.keys.size();
    if (section.store == nullptr) {
      std::fill_n(rows + first, count, nullptr);
    } else {
      section.store->StartRows({slots + first, count}, section.store->layout().dim, rows + first);
    }
    first += count;
  }
}

void FindOrCreateRows(std::span<const RowSection> sections, float** rows) {
  uint32_t slots[kMaxLookupKeys];
  FindSlots(sections, slots);
  size_t first = 0;
  for (const RowSection& section : sections) {
    const size_t count = section.keys.size();
    section.store->MakeAbsent(section.keys, slots + first);
    section.store->StartRows({slots + first, count}, section.store->layout().stride, rows + first);
    first += count;
  }
}

}  // namespace sheaf
