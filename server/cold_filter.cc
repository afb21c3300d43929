#include "server/cold_filter.h"

#include <algorithm>

#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr size_t kFirstBlocks = 2;
constexpr size_t kKeysABlock = 42;  // 12 bits a key
constexpr int kBitsAKey = 6;

size_t PlaceOf(uint64_t mixed, size_t blocks) {
  return static_cast<size_t>((static_cast<unsigned __int128>(mixed) * blocks) >> 64);
}

// The low bits name the bits of a block, nine at a time; the block is named by the high ones.
template <typename Visit>
void ForEachBit(uint64_t mixed, Visit visit) {
  for (int i = 0; i < kBitsAKey; ++i, mixed >>= 9) visit((mixed >> 6) & 7, uint64_t{1} << (mixed & 63));
}

}  // namespace

bool ColdFilter::Has(const Layer& layer, uint64_t mixed) {
  const Block& block = layer.blocks[PlaceOf(mixed, layer.blocks.size())];
  bool all = true;
  ForEachBit(mixed, [&](size_t word, uint64_t bit) { all &= (block.words[word] & bit) != 0; });
  return all;
}

bool ColdFilter::MayContain(HashedKey key) const {
  // Mixed once more: within a partition keys share their high bits.
  const uint64_t mixed = MixKey(key);
  return std::ranges::any_of(layers_, [mixed](const Layer& layer) { return Has(layer, mixed); });
}

void ColdFilter::Add(HashedKey key) {
  if (MayContain(key)) return;
  if (layers_.empty() || layers_.back().left == 0) {
    const size_t blocks = layers_.empty() ? kFirstBlocks : layers_.back().blocks.size() * 2;
    layers_.push_back({std::vector<Block>(blocks), blocks * kKeysABlock});
    bytes_ += blocks * sizeof(Block);
  }
  Layer& layer = layers_.back();
  --layer.left;
  const uint64_t mixed = MixKey(key);
  Block& block = layer.blocks[PlaceOf(mixed, layer.blocks.size())];
  ForEachBit(mixed, [&](size_t word, uint64_t bit) { block.words[word] |= bit; });
}

}  // namespace sheaf
