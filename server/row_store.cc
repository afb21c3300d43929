#include "server/row_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "common/base/check.h"
#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kCacheLine = 64;
constexpr size_t kMinCapacity = 8;
constexpr size_t kMinTail = 8;
constexpr size_t kMaxSlabBytes = size_t{2} << 20;   // a huge page
constexpr size_t kLookahead = 16;      // keys whose cells are on their way: about the outstanding misses of a core

int MaxSlabBits(uint32_t stride) {
  const size_t fit = kMaxSlabBytes / (size_t{stride} * sizeof(float));
  return std::max(RowStore::kFirstSlabBits, static_cast<int>(std::bit_width(fit)) - 1);
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

enum class Access { kRead, kWrite };

template <Access kAccess>
[[gnu::always_inline]] inline void PrefetchRow(const float* row, const RowLayout& layout) {
  const size_t floats = kAccess == Access::kRead ? layout.dim : layout.stride;
  const char* line = reinterpret_cast<const char*>(row);
  const char* end = line + std::min<size_t>(floats * sizeof(float), 4 * kCacheLine);  // the hardware follows from there
  for (; line < end; line += kCacheLine) __builtin_prefetch(line, kAccess == Access::kWrite);
}

// Walks the keys of sections in order; an empty section is stepped over.
class KeyCursor {
 public:
  explicit KeyCursor(std::span<const RowSection> sections) : sections_(sections) { SkipEmpty(); }

  bool done() const { return section_ == sections_.size(); }
  HashedKey key() const { return sections_[section_].keys[at_]; }
  RowStore* store() const { return sections_[section_].store; }
  void Next() {
    ++at_;
    SkipEmpty();
  }

 private:
  void SkipEmpty() {
    while (section_ < sections_.size() && at_ == sections_[section_].keys.size()) {
      ++section_;
      at_ = 0;
      if (section_ + 1 < sections_.size()) __builtin_prefetch(sections_[section_ + 1].store);
    }
  }
  std::span<const RowSection> sections_;
  size_t section_ = 0;
  size_t at_ = 0;
};

template <Access kAccess, typename Lookup>
void Pipeline(std::span<const RowSection> sections, float** rows, Lookup lookup) {
  KeyCursor ahead(sections);
  for (size_t i = 0; i < kLookahead && !ahead.done(); ++i, ahead.Next()) {
    if (ahead.store() != nullptr) ahead.store()->PrefetchCells(ahead.key());
  }
  for (KeyCursor here(sections); !here.done(); here.Next()) {
    if (!ahead.done()) {
      if (ahead.store() != nullptr) ahead.store()->PrefetchCells(ahead.key());
      ahead.Next();
    }
    float* row = here.store() == nullptr ? nullptr : lookup(*here.store(), here.key());
    if (row != nullptr) PrefetchRow<kAccess>(row, here.store()->layout());
    *rows++ = row;
  }
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
  const bool huge = bytes >= kHugePage;
  if (huge) alignment = kHugePage;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) throw std::bad_alloc();
  if (huge) madvise(data, bytes, MADV_HUGEPAGE);  // a wish: nothing depends on it
  data_.reset(data);
}

void Pages::Free::operator()(std::byte* data) const { std::free(data); }

RowStore::RowStore(const RowLayout* layout, uint32_t partition_count)
    : layout_(layout), partition_count_(partition_count), max_slab_bits_(MaxSlabBits(layout->stride)) {}

uint32_t RowStore::TakeSlot() {
  if (size_ == slot_count_) {
    const size_t grown =
        size_t{1} << std::min<size_t>(kFirstSlabBits + slabs_.size(), static_cast<size_t>(max_slab_bits_));
    slabs_.emplace_back(grown * layout_->stride * sizeof(float), kCacheLine);
    memory_bytes_ += slabs_.back().bytes();
    slot_count_ += grown;
    SHEAF_CHECK(slot_count_ < kNoSlot, "2^32 rows in one table's partition");
  }
  return static_cast<uint32_t>(size_++);
}

float* RowStore::FindOrCreate(HashedKey key) {
  size_t at = 0;
  if (capacity_ != 0) {
    at = Probe(key);
    if (at < cell_count_ && cells()[at].holds(key)) return Row(cells()[at].slot);
  }
  return Insert(key, at);
}

float* RowStore::Insert(HashedKey key, size_t at) {
  if ((size_ + 1) * 5 > capacity_ * 4) {
    Rebuild(std::max(kMinCapacity, capacity_ + capacity_ * 2 / 5), cell_count_ - capacity_);
    at = Probe(key);
  }
  size_t gap = at;
  while (gap < cell_count_ && !cells()[gap].empty()) ++gap;
  if (gap == cell_count_) {
    Rebuild(capacity_, (cell_count_ - capacity_) * 2);
    at = Probe(key);
    gap = at;
    while (!cells()[gap].empty()) ++gap;
  }
  std::memmove(&cells()[at + 1], &cells()[at], (gap - at) * sizeof(Cell));
  const uint32_t slot = TakeSlot();
  cells()[at] = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), slot};
  float* row = Row(slot);
  layout_->InitRow(key, row);
  return row;
}

// Cells come in order and go out in order: each to its home, or behind the one before.
void RowStore::Rebuild(size_t capacity, size_t tail) {
  tail = std::max(tail, kMinTail);
  const Pages old = std::move(index_);
  const size_t old_count = cell_count_;
  while (true) {
    Pages fresh((capacity + tail) * sizeof(Cell), kCacheLine);
    std::memset(fresh.as<Cell>(), 0xff, (capacity + tail) * sizeof(Cell));
    capacity_ = capacity;
    cell_count_ = capacity + tail;
    size_t next = 0;
    bool fits = true;
    for (size_t i = 0; i < old_count && fits; ++i) {
      const Cell& cell = old.as<Cell>()[i];
      if (cell.empty()) continue;
      next = std::max(next, Home(cell.key()));
      fits = next + 1 < cell_count_;  // one stays free for the key to come
      if (fits) fresh.as<Cell>()[next++] = cell;
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
  if (capacity_ == 0) return true;
  // Cells before a key's home hold smaller keys only.
  for (size_t at = Home(from); at < cell_count_; ++at) {
    const Cell& cell = cells()[at];
    if (cell.empty() || cell.key() < from) continue;
    if (rows.size() == max_rows) return false;
    keys.push_back(cell.key());
    rows.push_back(Row(cell.slot));
  }
  return true;
}

void FindRows(std::span<const RowSection> sections, float** rows) {
  Pipeline<Access::kRead>(sections, rows, [](const RowStore& store, HashedKey key) { return store.Find(key); });
}

void FindOrCreateRows(std::span<const RowSection> sections, float** rows) {
  Pipeline<Access::kWrite>(sections, rows, [](RowStore& store, HashedKey key) { return store.FindOrCreate(key); });
}

}  // namespace sheaf
