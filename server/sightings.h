// How often keys of a table were pushed to that have no row yet, in one partition: a row is made for those that come
// again, so that endless streams of keys that come once do not fill the memory.
//
// Two counters of a byte a key in one array, of which the smaller counts and is raised (counting Bloom filter: Fan et
// al., "Summary cache", 1998; conservative update: Estan and Varghese, 2002). All are halved whenever as many sightings
// have come as there are counters, so what came long ago is forgotten (as in TinyLFU: Einziger, Friedman and Manes,
// 2017). Keys that share both counters with others may be admitted early; about one in a hundred.
// What it says is a function of the sightings since it was made, so copies that are told the same say the same.
// Memory: none before the first sighting, then 16 KiB to 1 MiB by the number of partitions. Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/ids.h"

namespace sheaf {

class Sightings {
 public:
  // How often it was seen, this time included; at most 255.
  uint32_t Add(HashedKey key, uint32_t partition_count);

  // For images: the counters, eight a word.
  std::vector<uint64_t> Save() const { return words_; }
  uint64_t since_halved() const { return since_halved_; }
  // Nothing: they are none of a cluster with so many partitions.
  static std::optional<Sightings> Restore(std::span<const uint64_t> words, uint64_t since_halved,
                                          uint32_t partition_count);
  static size_t Counters(uint32_t partition_count);

 private:
  uint8_t* counters() { return reinterpret_cast<uint8_t*>(words_.data()); }
  void Halve();

  std::vector<uint64_t> words_;
  uint64_t since_halved_ = 0;
};

}  // namespace sheaf
