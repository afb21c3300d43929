// Documents to hashed word n-grams: the features of TEXT data.
//
// Tokens are runs of [a-z0-9'] and bytes above 0x7f (so UTF-8 words stay whole), or one of !?.,;:()"- alone. An
// n-gram's raw key is a function of its tokens' hashes and data.hash_seed. Values are counts within the document (term
// frequencies), but 1 for the weightings BINARY and NB_LOG_COUNT_RATIO, which are defined on presence (Wang and
// Manning, ACL 2012). Nothing is normalised here. Thread-safety: none. No allocation a token.
#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "proto/job.pb.h"
#include "worker/data/row_parser.h"

namespace sheaf {

class TextFeatures {
 public:
  static constexpr uint32_t kMostNgrams = 8;

  // `spec.ngrams` must be in 1..kMostNgrams.
  TextFeatures(const pb::TextSpec& spec, uint64_t hash_seed);

  // A guess for RowBuilder::BeginRow: English has a new word or pair every three bytes.
  static size_t ExpectedFeatures(size_t document_bytes) { return document_bytes / 3; }
  // Adds the document's features to the row that was begun.
  void AddFeatures(std::string_view document, RowBuilder& rows);

 private:
  // Of 64 bytes of the document, as bits.
  struct Kinds {
    uint64_t word;
    uint64_t starts;                              // where something begins: a word, a character alone, perhaps a tag
  };

  void Classify(std::string_view text);
  size_t WordEnd(size_t begin) const;
  void AddAll(std::string_view text);
  void AddToken(uint64_t token);

  uint32_t ngrams_;
  bool skip_headers_;
  bool counts_;
  uint64_t seed_;
  bool lowercase_;
  bool strip_html_;
  // Of the current document, each with one block of zeros behind it.
  std::vector<Kinds> kinds_;
  std::vector<char> folded_;                      // its bytes, in lower case if asked
  std::vector<uint64_t> grams_;                   // raw keys, as often as they appear
  size_t gram_count_ = 0;                         // of them, so far
  // ending_[n]: hash of the n + 1 tokens before the current one; of those, `depth_` are in the document.
  std::array<uint64_t, kMostNgrams> ending_{};
  uint32_t depth_ = 0;
};

// kInvalidArgument names the field of data.text that is out of range.
Status ValidateTextSpec(const pb::TextSpec& spec);
// Rows "label<TAB>text".
Result<std::unique_ptr<RowParser>> MakeTextLineParser(const pb::DataSpec& spec, LabelRule labels);

}  // namespace sheaf
