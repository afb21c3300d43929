// Which keys may have a row that has left memory: a Bloom filter that grows.
//
// "No" is certain, "yes" is wrong about once in a hundred times. Keys are never taken out: one whose row has come back
// is found in memory first. Layers: when one is full, one of twice its size is begun.
// Blocks of a cache line each, so that a question is one miss a layer. (Putze, Sanders, Singler: "Cache-, hash- and
// space-efficient Bloom filters", 2007; growing: Almeida et al., "Scalable Bloom Filters", 2007.)
// Memory: about 1.5 to 3 bytes a key. Thread-safety: none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/base/ids.h"

namespace sheaf {

class ColdFilter {
 public:
  void Add(HashedKey key);
  bool MayContain(HashedKey key) const;
  size_t bytes() const { return bytes_; }

 private:
  struct alignas(64) Block {
    std::array<uint64_t, 8> words{};
  };
  struct Layer {
    std::vector<Block> blocks;
    size_t left = 0;  // keys that it still takes
  };
  static bool Has(const Layer& layer, uint64_t mixed);

  std::vector<Layer> layers_;  // the last is the one that is filled
  size_t bytes_ = 0;
};

}  // namespace sheaf
