// The limits of the reader's cases: text in memory to numbers in arrays, by loops that look at one byte after the other
// and at
// none twice. They check nothing, keep no key unique, know no options: what is left is what any reader must do.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace sheaf::bench {

// Where rows go: arrays with room for all that a text can hold, so that nobody asks whether there is room.
struct MinimalRows {
  explicit MinimalRows(size_t text_bytes);
  std::vector<float> labels;
  std::vector<uint32_t> row_begin;
  std::vector<uint64_t> keys;
  std::vector<float> values;
};

// Whole lines. They return the number of features. LIBSVM: indexes and values as they stand.
size_t ReadLibsvm(std::string_view text, MinimalRows& out);
// A hash of each field and its column.
size_t ReadClicks(std::string_view text, char separator, MinimalRows& out);
// A hash of each word, and of each pair of neighbours.
size_t ReadText(std::string_view text, MinimalRows& out);

}  // namespace sheaf::bench
