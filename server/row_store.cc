#include "server/row_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "common/base/check.h"
#include "common/base/planted_bug.h"
#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr size_t kPage = size_t{4} << 10;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHugeFrom = kHugePage / 2;  // what is this large is mapped by itself
constexpr size_t kMinHomes = 2;  // buckets
constexpr size_t kMinTail = 2;
constexpr size_t kLongRun = 32;   // buckets
constexpr size_t kMaxSpread = 2;  // rows a home bucket, at least
constexpr size_t kMinSlabRows = 4;
constexpr unsigned kAgeing = 32;
constexpr size_t kCopyAhead = 32;         // rows that are on their way into the cache

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

}  // namespace

void RowLayout::InitWeights(HashedKey key, float* weights) const {
  const uint32_t zeros = StartsAtZero() ? dim : init_zero_columns;
  std::fill_n(weights, zeros, 0.0f);
  if (zeros == dim) return;
  Random random(MixPair(seed, key));
  for (uint32_t i = zeros; i < dim; ++i) weights[i] = static_cast<float>(init_stddev * CheapGaussian(random));
}

void RowLayout::InitRow(HashedKey key, float* row) const {
  InitWeights(key, row);
  optimizer->InitState(row, dim);
  if (timed) SetTime(row, 0);
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

int RowStore::SlabBits(const RowLayout& layout) {
  const size_t fit = layout.slab_bytes / (size_t{layout.stride} * sizeof(float));
  return static_cast<int>(std::bit_width(std::max(fit, kMinSlabRows))) - 1;
}

RowStore::RowStore(const RowLayout* layout, uint32_t partition_count)
    : layout_(layout), partition_count_(partition_count), slab_bits_(SlabBits(*layout)) {}

// The least that can be had for so many rows.
size_t RowStore::SlotsFor(size_t rows) const {
  const size_t full = size_t{1} << slab_bits_;
  if (rows > full) return (rows + full - 1) / full * full;
  const size_t slots = std::min(full, std::bit_ceil(std::max(rows, kMinSlabRows)));
  return slots * layout_->stride * sizeof(float) >= kHugeFrom ? full : slots;
}

void RowStore::Reserve(size_t rows) {
  const size_t needed = used_slots_ + rows - std::min(rows, free_slots_.size());
  SHEAF_CHECK(needed < kNoSlot, "2^32 rows in one table's partition");
  const size_t full = size_t{1} << slab_bits_;
  while (slot_count_ < needed) {
    const size_t slots = slot_count_ >= full ? full : std::min(full, SlotsFor(needed));
    Pages slab(slots * layout_->stride * sizeof(float), kCacheLine);
    memory_bytes_ += slab.bytes();
    if (slot_count_ >= full) {
      slot_count_ += full;
      slabs_.push_back(std::move(slab));
      continue;
    }
    slot_count_ = slots;
    if (slabs_.empty()) {
      slabs_.push_back(std::move(slab));
      continue;
    }
    std::memcpy(slab.as<float>(), slabs_[0].as<float>(), used_slots_ * layout_->stride * sizeof(float));
    memory_bytes_ -= slabs_[0].bytes();
    slabs_[0] = std::move(slab);
  }
  marks_.resize((slot_count_ + 63) / 64);
  changes_.resize(marks_.size());
  if (layout_->counts_uses) uses_.resize(slot_count_);
}

uint32_t RowStore::TakeSlot() {
  ++hot_;
  auto slot = static_cast<uint32_t>(used_slots_);
  if (free_slots_.empty()) {
    ++used_slots_;
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  if (!uses_.empty()) uses_[slot] = kUse;
  return slot;
}

void RowStore::ClearBits(uint32_t slot) {
  const uint64_t others = ~(uint64_t{1} << (slot % 64));
  marks_[slot / 64] &= others;
  changes_[slot / 64] &= others;
}

uint32_t RowStore::SlotOf(HashedKey key) const {
  if (home_count_ == 0) return kNoSlot;
  return RowBucket::SlotOf(key, buckets() + Home(key));
}

float* RowStore::Find(HashedKey key) const {
  const uint32_t slot = SlotOf(key);
  return slot == kNoSlot ? nullptr : Row(slot);
}

float* RowStore::FindOrCreate(HashedKey key) {
  if (float* row = Find(key)) return row;
  Reserve(1);
  return Row(Insert(key));
}

void RowStore::MakeAbsent(std::span<const HashedKey> keys, size_t absent, float** rows, uint32_t* slots) {
  Reserve(absent);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (rows[i] == nullptr) Insert(keys[i]);
  }
  for (size_t i = 0; i < keys.size(); ++i) {  // making some may have moved the others
    const uint32_t slot = SlotOf(keys[i]);
    rows[i] = Row(slot);
    if (slots != nullptr) slots[i] = slot;
  }
}

uint32_t RowStore::Insert(HashedKey key) {
  const uint32_t slot = InsertSlot(key);
  if (!erased_.empty()) erased_.erase(key);
  if (!erasing_.empty()) erasing_.erase(key);
  layout_->InitRow(key, Row(slot));
  return slot;
}

// Of a key that is not in. There is a slot free.
uint32_t RowStore::InsertSlot(HashedKey key) {
  // Grows by a third when six in ten cells are full: with more, too many keys would not lie in their home bucket.
  if ((hot_ + 1) * 10 > home_count_ * RowBucket::kCells * 6) {
    Rebuild(std::max(kMinHomes, home_count_ + (home_count_ + 2) / 3), bucket_count_ - home_count_);
  }
  const size_t home = Home(key);
  size_t at = home;
  size_t cell = buckets()[at].CountBelow(key);
  while (cell == RowBucket::kCells) cell = buckets()[++at].CountBelow(key);
  size_t gap = at;
  while (buckets()[gap].full()) ++gap;
  if (gap == bucket_count_) {
    Rebuild(home_count_, (bucket_count_ - home_count_) * 2);
    return InsertSlot(key);
  }
  // A long run: the keys so far crowd in a part of the range, as those of a sorted load do. More room keeps runs short.
  if (gap - home > kLongRun && home_count_ * kMaxSpread <= hot_) {
    Rebuild(home_count_ * 2, bucket_count_ - home_count_);
    return InsertSlot(key);
  }
  const uint32_t slot = TakeSlot();
  HashedKey coming = key;
  for (uint32_t coming_slot = slot;; ++at, cell = 0) {  // each full bucket's last cell goes on to the next bucket
    RowBucket& bucket = buckets()[at];
    const HashedKey last = bucket.keys[RowBucket::kCells - 1];
    const uint32_t last_slot = bucket.slots[RowBucket::kCells - 1];
    bucket.Insert(cell, coming, coming_slot);
    if (last_slot == kNoSlot) break;
    coming = last;
    coming_slot = last_slot;
  }
  return slot;
}

// Cells come in order and go out in order: each to its home, or behind the one before.
void RowStore::Rebuild(size_t homes, size_t tail) {
  tail = std::max(tail, kMinTail);
  const Pages old = std::move(index_);
  const size_t old_count = bucket_count_;
  while (true) {
    size_t bytes = (homes + tail + 1) * sizeof(RowBucket);
    if (const size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
        whole <= bytes + bytes / 4) {  // huge pages, filled
      bytes = whole;
      homes = bytes / sizeof(RowBucket) - tail - 1;
    }
    Pages fresh(bytes, kCacheLine);
    std::memset(static_cast<void*>(fresh.as<RowBucket>()), 0xff, bytes);
    home_count_ = homes;
    bucket_count_ = homes + tail;
    size_t bucket = 0, cell = 0;
    bool fits = true;
    for (size_t i = 0; i < old_count && fits; ++i) {
      const RowBucket& from = old.as<RowBucket>()[i];
      for (size_t moved = 0; moved < RowBucket::kCells && !from.empty(moved); ++moved) {
        const size_t home = Home(from.keys[moved]);
        if (home > bucket || cell == RowBucket::kCells) {
          bucket = std::max(home, bucket + (cell == RowBucket::kCells));
          cell = 0;
        }
        fits = bucket < bucket_count_;
        if (!fits) break;
        fresh.as<RowBucket>()[bucket].keys[cell] = from.keys[moved];
        fresh.as<RowBucket>()[bucket].slots[cell++] = from.slots[moved];
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
    const RowBucket& bucket = buckets()[at];
    for (size_t cell = 0; cell < RowBucket::kCells && !bucket.empty(cell); ++cell) {
      if (bucket.keys[cell] < from) continue;
      if (rows.size() == max_rows) return false;
      keys.push_back(bucket.keys[cell]);
      rows.push_back(Row(bucket.slots[cell]));
    }
  }
  return true;
}

template <typename Choose>
std::optional<HashedKey> RowStore::CopyChosen(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys,
                                              std::vector<float>& rows, Choose choose) {
  if (home_count_ == 0) return std::nullopt;
  const float* ahead[kCopyAhead];
  size_t waiting = 0;
  const auto copy = [&] {
    for (size_t i = 0; i < waiting; ++i) rows.insert(rows.end(), ahead[i], ahead[i] + layout_->stride);
    waiting = 0;
  };
  const size_t already = keys.size();
  std::optional<HashedKey> next;
  size_t looked_at = 0;
  for (size_t at = Home(from); at < bucket_count_ && !next; ++at) {
    const RowBucket& bucket = buckets()[at];
    for (size_t cell = 0; cell < RowBucket::kCells && !bucket.empty(cell); ++cell) {
      if (bucket.keys[cell] < from) continue;
      if (keys.size() - already == max_rows || looked_at / 8 == max_rows) {
        next = bucket.keys[cell];
        break;
      }
      ++looked_at;
      const float* const row = choose(bucket.keys[cell], bucket.slots[cell]);
      if (row == nullptr) continue;
      for (size_t line = 0; line < layout_->stride; line += kCacheLine / sizeof(float)) __builtin_prefetch(row + line);
      keys.push_back(bucket.keys[cell]);
      ahead[waiting++] = row;
      if (waiting == kCopyAhead) copy();
    }
  }
  copy();
  return next;
}

std::optional<HashedKey> RowStore::Copy(Which which, HashedKey from, size_t max_rows, std::vector<HashedKey>& keys,
                                        std::vector<float>& rows) {
  return CopyChosen(from, max_rows, keys, rows, [&](HashedKey, uint32_t slot) -> const float* {
    const uint64_t mark = uint64_t{1} << (slot % 64);
    if (which == Which::kMarked && !(marks_[slot / 64] & mark)) return nullptr;
    if (which == Which::kMarked) marks_[slot / 64] &= ~mark;
    return Row(slot);
  });
}

// ---- cuts

void RowStore::BeginCut(Cut which) {
  cutting_ = true;
  kept_.clear();
  kept_rows_.clear();
  cut_.assign((used_slots_ + 63) / 64, ~uint64_t{0});
  if (used_slots_ % 64 != 0) cut_.back() = (uint64_t{1} << (used_slots_ % 64)) - 1;  // rows to come are not in it
  for (const uint32_t slot : free_slots_) cut_[slot / 64] &= ~(uint64_t{1} << (slot % 64));
  cut_has_all_ = which == Cut::kAll;
  if (which == Cut::kChanged) {
    for (size_t i = 0; i < cut_.size(); ++i) cut_[i] &= changes_[i];
  }
  cut_rows_ = cut_has_all_ ? cold_ : 0;
  for (const uint64_t word : cut_) cut_rows_ += static_cast<size_t>(std::popcount(word));
  std::ranges::fill(changes_, 0);
}

void RowStore::KeepForCut(uint32_t slot) {
  if (slot / 64 >= cut_.size() || Planted(Bug::kCutSeesLaterRows)) return;
  const uint64_t bit = uint64_t{1} << (slot % 64);
  if ((cut_[slot / 64] & bit) == 0) return;
  cut_[slot / 64] &= ~bit;
  kept_.emplace(slot, kept_rows_.size());
  const float* const row = Row(slot);
  kept_rows_.insert(kept_rows_.end(), row, row + layout_->stride);
}

std::optional<HashedKey> RowStore::CopyCut(HashedKey from, size_t max_rows, std::vector<HashedKey>& keys,
                                           std::vector<float>& rows) {
  if (cut_rows_ == 0) return std::nullopt;
  return CopyChosen(from, max_rows, keys, rows, [&](HashedKey, uint32_t slot) -> const float* {
    if (slot / 64 >= cut_.size()) return nullptr;
    const uint64_t bit = uint64_t{1} << (slot % 64);
    if ((cut_[slot / 64] & bit) != 0) {
      cut_[slot / 64] &= ~bit;
      return Row(slot);
    }
    const auto kept = kept_.find(slot);
    return kept == kept_.end() ? nullptr : kept_rows_.data() + kept->second;
  });
}

void RowStore::EndCut() {
  cutting_ = false;
  cut_rows_ = 0;
  std::vector<uint64_t>().swap(cut_);
  std::unordered_map<uint32_t, size_t>().swap(kept_);
  std::vector<float>().swap(kept_rows_);
}

bool RowStore::Leavers::Choose(uint8_t uses_of_row) {
  if (uses_of_row > uses || chosen >= most) return false;
  if (uses_of_row == uses) {
    spread += with_that;
    if (spread < of_these) return false;
    spread -= of_these;
  }
  ++chosen;
  return true;
}

RowStore::Leavers RowStore::LeastUsed(Of which, size_t most) const {
  std::array<size_t, 256> rows{};
  for (size_t at = 0; at < bucket_count_; ++at) {
    const RowBucket& bucket = buckets()[at];
    for (size_t cell = 0; cell < RowBucket::kCells && !bucket.empty(cell); ++cell) {
      const uint32_t slot = bucket.slots[cell];
      if (which == Of::kAll || (marks_[slot / 64] >> (slot % 64) & 1) == 0) ++rows[uses_[slot]];
    }
  }
  Leavers leavers{.most = most};
  for (size_t uses = 0, left = most; uses < rows.size(); left -= rows[uses++]) {
    leavers.uses = static_cast<uint8_t>(uses);
    leavers.with_that = std::min(left, rows[uses]);
    leavers.of_these = rows[uses];
    if (rows[uses] >= left) break;
  }
  return leavers;
}

std::optional<HashedKey> RowStore::CopyLeavers(Leavers& leavers, HashedKey from, size_t max_rows,
                                               std::span<const HashedKey> stay, std::vector<HashedKey>& keys,
                                               std::vector<float>& rows) {
  return CopyChosen(from, max_rows, keys, rows, [&](HashedKey key, uint32_t slot) -> const float* {
    while (!stay.empty() && stay.front() < key) stay = stay.subspan(1);
    if (!stay.empty() && stay.front() == key) return nullptr;
    const uint64_t mark = uint64_t{1} << (slot % 64);
    if (!leavers.Choose(uses_[slot]) || (marks_[slot / 64] & mark) == 0) return nullptr;
    marks_[slot / 64] &= ~mark;
    return Row(slot);
  });
}

// None is written before it was read.
template <typename Leaves>
void RowStore::Sift(Leaves leaves) {
  size_t into = 0, cell_into = 0;
  for (size_t at = 0; at < bucket_count_; ++at) {
    RowBucket& bucket = buckets()[at];
    if (bucket.empty(0)) continue;
    const RowBucket from = bucket;
    std::memset(static_cast<void*>(&bucket), 0xff, sizeof(bucket));
    for (size_t cell = 0; cell < RowBucket::kCells && !from.empty(cell); ++cell) {
      const HashedKey key = from.keys[cell];
      if (leaves(key, from.slots[cell])) continue;
      if (const size_t home = Home(key); home > into || cell_into == RowBucket::kCells) {
        into = std::max(home, into + (cell_into == RowBucket::kCells));
        cell_into = 0;
      }
      buckets()[into].keys[cell_into] = key;
      buckets()[into].slots[cell_into++] = from.slots[cell];
    }
  }
}

RowStore::Evicted RowStore::Evict(size_t most, std::span<const HashedKey> stay) {
  SHEAF_CHECK(!cutting_ && layout_->counts_uses, "rows leave memory");
  Leavers leavers = LeastUsed(Of::kUnmarked, most);
  Evicted evicted;
  Sift([&](HashedKey key, uint32_t slot) {
    const uint64_t bit = uint64_t{1} << (slot % 64);
    const bool marked = (marks_[slot / 64] & bit) != 0 && !Planted(Bug::kChangedRowsLeave);
    while (!stay.empty() && stay.front() < key) stay = stay.subspan(1);
    const bool stays = !stay.empty() && stay.front() == key;
    const bool leaves = !marked && !stays && leavers.Choose(uses_[slot]);
    uses_[slot] = static_cast<uint8_t>(uses_[slot] - (uses_[slot] + kAgeing - 1) / kAgeing);
    if (!leaves) return false;
    evicted.changed |= (changes_[slot / 64] & bit) != 0;
    ++evicted.rows;
    ClearBits(slot);
    free_slots_.push_back(slot);
    filter_.Add(key);
    if (!known_absent_.empty()) known_absent_.erase(key);
    return true;
  });
  hot_ -= evicted.rows;
  cold_ += evicted.rows;
  if (slot_count_ >= 2 * SlotsFor(hot_)) Shrink();
  return evicted;
}

// ---- rows that expire

std::optional<HashedKey> RowStore::FindOlder(uint32_t before, HashedKey from, size_t most,
                                             std::vector<HashedKey>& keys) const {
  if (home_count_ == 0) return std::nullopt;
  size_t looked_at = 0;
  for (size_t at = Home(from); at < bucket_count_; ++at) {
    const RowBucket& bucket = buckets()[at];
    for (size_t cell = 0; cell < RowBucket::kCells && !bucket.empty(cell); ++cell) {
      if (bucket.keys[cell] < from) continue;
      if (looked_at++ == most) return bucket.keys[cell];
      if (layout_->TimeOf(Row(bucket.slots[cell])) < before) keys.push_back(bucket.keys[cell]);
    }
  }
  return std::nullopt;
}

size_t RowStore::Erase(std::span<const HashedKey> keys, bool stored) {
  SHEAF_CHECK(!cutting_, "rows are dropped");
  size_t gone = 0;
  Sift([&](HashedKey key, uint32_t slot) {
    while (!keys.empty() && keys.front() < key) keys = keys.subspan(1);
    if (keys.empty() || keys.front() != key) return false;
    ++gone;
    ClearBits(slot);
    free_slots_.push_back(slot);
    if (stored) erased_.insert(key);
    return true;
  });
  hot_ -= gone;
  if (gone > 0 && slot_count_ >= 2 * SlotsFor(hot_)) Shrink();
  return gone;
}

std::vector<HashedKey> RowStore::TakeErased() {
  std::vector<HashedKey> keys(erased_.begin(), erased_.end());
  std::ranges::sort(keys);
  erasing_ = std::exchange(erased_, {});
  return keys;
}

void RowStore::Shrink() {
  const std::vector<Pages> old = std::exchange(slabs_, {});
  for (const Pages& slab : old) memory_bytes_ -= slab.bytes();
  const std::vector<uint64_t> marks = std::exchange(marks_, {}), changes = std::exchange(changes_, {});
  const std::vector<uint8_t> uses = std::exchange(uses_, {});
  std::vector<uint32_t>().swap(free_slots_);
  slot_count_ = used_slots_ = 0;
  Reserve(std::max<size_t>(hot_, 1));  // a view looks at the first slab
  const size_t slab_mask = (size_t{1} << slab_bits_) - 1;
  for (size_t at = 0; at < bucket_count_; ++at) {
    RowBucket& bucket = buckets()[at];
    for (size_t cell = 0; cell < RowBucket::kCells && !bucket.empty(cell); ++cell) {
      const uint32_t from = bucket.slots[cell];
      const auto to = static_cast<uint32_t>(used_slots_++);
      std::memcpy(Row(to), old[from >> slab_bits_].as<float>() + (from & slab_mask) * layout_->stride,
                  layout_->stride * sizeof(float));
      marks_[to / 64] |= (marks[from / 64] >> (from % 64) & 1) << (to % 64);
      changes_[to / 64] |= (changes[from / 64] >> (from % 64) & 1) << (to % 64);
      if (!uses_.empty()) uses_[to] = uses[from];
      bucket.slots[cell] = to;
    }
  }
  const size_t homes = std::max(kMinHomes, hot_ * 10 / (RowBucket::kCells * 5) + 1);
  if (homes * 2 < home_count_) Rebuild(homes, kMinTail);
}

void RowStore::TakeBack(HashedKey key, const float* row) {
  if (cold_ == 0 || SlotOf(key) != kNoSlot || IsErased(key)) return;
  Reserve(1);
  const uint32_t slot = InsertSlot(key);
  std::memcpy(Row(slot), row, layout_->stride * sizeof(float));
  ClearBits(slot);
  --cold_;
  if (!cutting_ || !cut_has_all_) return;
  if (slot / 64 >= cut_.size()) cut_.resize(slot / 64 + 1);
  cut_[slot / 64] |= uint64_t{1} << (slot % 64);
}

void RowStore::NoteAbsent(HashedKey key) {
  if (known_absent_.size() >= kMostKnownAbsent) known_absent_.clear();
  known_absent_.insert(key);
}

void RowStore::MarkAll() { std::ranges::fill(marks_, ~uint64_t{0}); }

void RowStore::ReserveLoad(size_t more) {
  Reserve(more);
  const size_t homes = (hot_ + more) * 10 / (RowBucket::kCells * 6) + 1;
  if (homes > home_count_) Rebuild(std::max(kMinHomes, homes), std::max(kMinTail, bucket_count_ - home_count_));
}

void RowStore::Load(std::span<const HashedKey> keys, const float* rows) {
  Reserve(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    std::memcpy(Row(InsertSlot(keys[i])), rows + i * layout_->stride, layout_->stride * sizeof(float));
  }
}

}  // namespace sheaf
