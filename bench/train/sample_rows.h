// Rows of text for the reader and training benchmarks, made from a seed: the shapes matter, not what is learnt from
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace sheaf::bench {

// "label index:value ...": 35 distinct features a row out of a million, index k drawn in proportion to 1 / k.
enum class LibsvmValues { kOnes, kSixDigits };
std::string LibsvmRows(size_t rows, LibsvmValues values, uint64_t seed);

// The shape of Criteo's click logs: a label, 13 integers (some missing), 26 categories of 8 hexadecimal digits.
std::string ClickRows(size_t rows, char separator, uint64_t seed);

// "label<TAB>text": about 230 words a document by Zipf's law out of 50,000, with capitals, punctuation and line breaks
// of HTML.
std::string TextRows(size_t rows, uint64_t seed);

}  // namespace sheaf::bench
