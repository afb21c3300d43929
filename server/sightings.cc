#include "server/sightings.h"

#include <algorithm>
#include <bit>

#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr size_t kCountersOfAll = size_t{4} << 20;  // of a table's partitions
constexpr size_t kLeast = size_t{16} << 10, kMost = size_t{1} << 20;

}  // namespace

size_t Sightings::Counters(uint32_t partition_count) {
  return std::clamp(std::bit_floor(kCountersOfAll / std::max<size_t>(partition_count, 1)), kLeast, kMost);
}

uint32_t Sightings::Add(HashedKey key, uint32_t partition_count) {
  const size_t count = Counters(partition_count);
  if (words_.empty()) words_.resize(count / sizeof(uint64_t));
  // Mixed once more: within a partition keys share their high bits.
  const uint64_t mixed = MixKey(key);
  uint8_t& one = counters()[mixed & (count - 1)];
  uint8_t& other = counters()[(mixed >> 32) & (count - 1)];
  const auto seen = static_cast<uint8_t>(std::min<uint32_t>(std::min(one, other) + 1, UINT8_MAX));
  one = std::max(one, seen);
  other = std::max(other, seen);
  if (++since_halved_ == count) Halve();
  return seen;
}

void Sightings::Halve() {
  since_halved_ = 0;
  for (uint64_t& word : words_) word = (word >> 1) & 0x7f7f7f7f7f7f7f7f;
}

std::optional<Sightings> Sightings::Restore(std::span<const uint64_t> words, uint64_t since_halved,
                                            uint32_t partition_count) {
  const size_t count = Counters(partition_count);
  if (words.size() * sizeof(uint64_t) != count || since_halved >= count) return std::nullopt;
  Sightings restored;
  restored.words_.assign(words.begin(), words.end());
  restored.since_halved_ = since_halved;
  return restored;
}

}  // namespace sheaf
