#include "bench/train/sample_rows.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "common/base/random.h"

namespace sheaf::bench {
namespace {

void Append(std::string& out, uint64_t number) {
  char text[24];
  out.append(text, std::to_chars(text, text + sizeof text, number).ptr);
}

// k in [1, most] with probability in proportion to 1 / k.
uint64_t PowerLaw(Random& random, double most) { return static_cast<uint64_t>(std::pow(most, random.NextDouble())); }

std::string Word(uint64_t rank) {
  Random random(rank);
  // Frequent words are short, as in English.
  const size_t length = 2 + random.Below(2 + std::min<uint64_t>(8, static_cast<uint64_t>(std::log2(rank))));
  std::string word;
  for (size_t i = 0; i < length; ++i) word += static_cast<char>('a' + random.Below(26));
  return word;
}

}  // namespace

std::string LibsvmRows(size_t rows, LibsvmValues values, uint64_t seed) {
  constexpr size_t kFeatures = 35;
  Random random(seed);
  std::string out;
  std::vector<uint64_t> indexes;
  for (size_t row = 0; row < rows; ++row) {
    indexes.clear();
    while (indexes.size() < kFeatures) {
      indexes.push_back(PowerLaw(random, 1e6));
      if (indexes.size() < kFeatures) continue;
      std::sort(indexes.begin(), indexes.end());
      indexes.erase(std::unique(indexes.begin(), indexes.end()), indexes.end());
    }
    out += random.Below(2) == 0 ? "-1" : "+1";
    for (const uint64_t index : indexes) {
      out += ' ';
      Append(out, index);
      if (values == LibsvmValues::kOnes) {
        out += ":1";
      } else {
        out += ":0.";
        Append(out, 100'000 + random.Below(900'000));
      }
    }
    out += '\n';
  }
  return out;
}

std::string ClickRows(size_t rows, char separator, uint64_t seed) {
  constexpr size_t kIntegers = 13, kCategories = 26;
  Random random(seed);
  std::string out;
  for (size_t row = 0; row < rows; ++row) {
    out += static_cast<char>('0' + random.Below(2));
    for (size_t i = 0; i < kIntegers; ++i) {
      out += separator;
      if (random.Below(5) != 0) Append(out, PowerLaw(random, 20'000));
    }
    for (size_t i = 0; i < kCategories; ++i) {
      out += separator;
      if (random.Below(20) == 0) continue;
      const uint64_t value = MixPair(i, PowerLaw(random, 1e6));
      for (int digit = 0; digit < 8; ++digit) out += "0123456789abcdef"[value >> (4 * digit) & 15];
    }
    out += '\n';
  }
  return out;
}

std::string TextRows(size_t rows, uint64_t seed) {
  constexpr size_t kWords = 50'000, kWordsInDocument = 230;
  std::vector<std::string> words;
  for (size_t rank = 1; rank <= kWords; ++rank) words.push_back(Word(rank));
  Random random(seed);
  std::string out;
  for (size_t row = 0; row < rows; ++row) {
    out += static_cast<char>('0' + random.Below(2));
    out += '\t';
    bool capital = true;
    for (size_t i = 0; i < kWordsInDocument; ++i) {
      const std::string& word = words[PowerLaw(random, kWords) - 1];
      const size_t at = out.size();
      out += word;
      if (capital) out[at] = static_cast<char>(out[at] - 'a' + 'A');
      capital = random.Below(15) == 0;
      if (random.Below(80) == 0) out += "<br /><br />";
      out += capital ? ". " : random.Below(12) == 0 ? ", " : " ";
    }
    out += '\n';
  }
  return out;
}

}  // namespace sheaf::bench
