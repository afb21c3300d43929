#include "bench/train/minimal_reader.h"

#include "common/base/random.h"
#include "worker/data/feature_hash.h"

namespace sheaf::bench {

MinimalRows::MinimalRows(size_t text_bytes)
    : labels(text_bytes / 2 + 1), row_begin(text_bytes / 2 + 1), keys(text_bytes + 1), values(text_bytes / 4 + 1) {}

size_t ReadLibsvm(std::string_view text, MinimalRows& out) {
  constexpr double kPowers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
  size_t rows = 0, features = 0;
  float* const labels = out.labels.data();
  uint32_t* const row_begin = out.row_begin.data();
  uint64_t* const keys = out.keys.data();
  float* const values = out.values.data();
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    row_begin[rows] = static_cast<uint32_t>(features);
    labels[rows++] = *p == '-' ? 0.0f : 1.0f;
    while (*p != ' ') ++p;
    while (*p != '\n') {
      uint64_t index = 0;
      for (++p; *p != ':'; ++p) index = index * 10 + static_cast<uint64_t>(*p - '0');
      uint64_t mantissa = 0;
      for (++p; *p >= '0'; ++p) mantissa = mantissa * 10 + static_cast<uint64_t>(*p - '0');
      double value = static_cast<double>(mantissa);
      if (*p == '.') {
        const char* const point = p;
        for (++p; *p >= '0'; ++p) mantissa = mantissa * 10 + static_cast<uint64_t>(*p - '0');
        value = static_cast<double>(mantissa) / kPowers[p - point - 1];
      }
      keys[features] = index;
      values[features++] = static_cast<float>(value);
    }
    ++p;
  }
  return features;
}

size_t ReadClicks(std::string_view text, char separator, MinimalRows& out) {
  size_t rows = 0, features = 0;
  float* const labels = out.labels.data();
  uint32_t* const row_begin = out.row_begin.data();
  uint64_t* const keys = out.keys.data();
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    row_begin[rows] = static_cast<uint32_t>(features);
    labels[rows++] = static_cast<float>(*p++ - '0');
    uint64_t column = 0;
    while (*p != '\n') {
      const char* const begin = ++p;
      while (*p != separator && *p != '\n') ++p;
      keys[features++] = HashText({begin, static_cast<size_t>(p - begin)}, ++column);
    }
    ++p;
  }
  return features;
}

size_t ReadText(std::string_view text, MinimalRows& out) {
  bool in_word[256] = {};
  for (int c = 0; c < 256; ++c)
    in_word[c] = c >= 0x80 || c == '\'' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
  size_t rows = 0, features = 0;
  float* const labels = out.labels.data();
  uint32_t* const row_begin = out.row_begin.data();
  uint64_t* const keys = out.keys.data();
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    row_begin[rows] = static_cast<uint32_t>(features);
    labels[rows++] = static_cast<float>(*p - '0');
    uint64_t previous = 0;
    for (++p; *p != '\n'; ++p) {
      if (!in_word[static_cast<unsigned char>(*p)]) continue;
      uint64_t hash = 0;
      for (; in_word[static_cast<unsigned char>(*p)]; ++p)
        hash = (hash ^ static_cast<uint64_t>(*p | 32)) * 0x100000001b3ULL;
      keys[features++] = hash;
      keys[features++] = MixPair(previous, hash);
      previous = hash;
      --p;
    }
    ++p;
  }
  return features;
}

}  // namespace sheaf::bench
