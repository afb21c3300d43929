#include "worker/data/text_features.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "worker/data/byte_block.h"
#include "worker/data/feature_hash.h"

namespace sheaf {
namespace {

constexpr std::string_view kAlone = "!?.,;:()\"-";

std::string_view WithoutHeaders(std::string_view text) {
  const size_t unix_gap = text.find("\n\n");
  const size_t dos_gap = text.find("\r\n\r\n");
  if (unix_gap == text.npos && dos_gap == text.npos) return text;  // no empty line: no headers either
  return unix_gap < dos_gap ? text.substr(unix_gap + 2) : text.substr(dos_gap + 4);
}

constexpr bool OpensTag(unsigned char c) {
  return static_cast<unsigned char>((c | 0x20) - 'a') < 26 || c == '/' || c == '!';
}

// Where the tag that begins at `p` ends, or p + 1 if none does: "a < b" and "<3" are no tags. A tag holds no other '<',
// so the search never crosses the same bytes twice.
const char* BehindTag(const char* p, const char* end) {
  if (end - p < 3 || !OpensTag(static_cast<unsigned char>(p[1]))) return p + 1;
  for (const char* q = p + 2; q < end && *q != '<'; ++q) {
    if (*q == '>') return q + 1;
  }
  return p + 1;
}

class TextLineParser final : public RowParser {
 public:
  TextLineParser(const pb::DataSpec& spec, LabelRule labels)
      : labels_(labels), features_(spec.text(), spec.hash_seed()) {}

  Status ParseRow(std::string_view line, RowBuilder& rows) override {
    const size_t tab = line.find('\t');
    if (tab == line.npos) {
      return Fail(ErrorCode::kInvalidArgument, "no tab in ", Quoted(line), "; TEXT rows are \"label<TAB>text\"");
    }
    const auto label = labels_.Parse(line.substr(0, tab));
    if (!label) return Failure{label.error()};
    rows.BeginRow(TextFeatures::ExpectedFeatures(line.size()));
    features_.AddFeatures(line.substr(tab + 1), rows);
    rows.CommitRow(*label);
    return {};
  }

 private:
  LabelRule labels_;
  TextFeatures features_;
};

}  // namespace

TextFeatures::TextFeatures(const pb::TextSpec& spec, uint64_t hash_seed)
    : ngrams_(std::clamp<uint32_t>(spec.ngrams(), 1, kMostNgrams)),
      skip_headers_(spec.skip_headers()),
      counts_(spec.weighting() == pb::TextSpec::COUNT || spec.weighting() == pb::TextSpec::TF_IDF),
      seed_(MixKey(hash_seed)),
      lowercase_(spec.lowercase()),
      strip_html_(spec.strip_html()) {}

void TextFeatures::AddFeatures(std::string_view document, RowBuilder& rows) {
  if (skip_headers_) document = WithoutHeaders(document);
  Classify(document);
  gram_count_ = 0;
  depth_ = 0;
  AddAll(document);
  const std::span<const uint64_t> grams(grams_.data(), gram_count_);
  if (!counts_) return rows.AddOnce(grams);
  for (const uint64_t raw_key : grams) rows.AddSum(raw_key, 1.0f);
}

// Fills kinds_ and folded_, and makes room in grams_. A word holds letters, digits, ' and bytes above 0x7f.
void TextFeatures::Classify(std::string_view text) {
  const size_t blocks = text.size() / ByteBlock::kBytes + 1;
  if (kinds_.size() <= blocks) {
    kinds_.resize(blocks + 1);
    folded_.resize(kinds_.size() * ByteBlock::kBytes);
  }
  uint64_t in_word = 0;  // whether the byte before was of a word
  size_t at = 0, most_tokens = 0;
  ForEachBlock(text, [&](const ByteBlock& block, size_t first, size_t) {
    if (lowercase_) {
      block.WriteLowercase(folded_.data() + first);
    } else {
      block.Write(folded_.data() + first);
    }
    const uint64_t word = block.Between('a', 'z') | block.Between('A', 'Z') | block.Between('0', '9') |
                          block.Equal('\'') | block.Between(0x80, 0xff);
    uint64_t alone = 0;
    for (const char c : kAlone) alone |= block.Equal(c);
    if (strip_html_) alone |= block.Equal('<');
    kinds_[at++] = {word, (word & ~(word << 1 | in_word)) | alone};
    most_tokens += static_cast<size_t>(std::popcount(kinds_[at - 1].starts));
    in_word = word >> 63;
  });
  kinds_[at] = {};  // ends the last word
  if (grams_.size() < most_tokens * ngrams_) grams_.resize(most_tokens * ngrams_);
}

// Behind the word that begins at `begin`.
size_t TextFeatures::WordEnd(size_t begin) const {
  size_t block = begin / ByteBlock::kBytes;
  uint64_t others = ~kinds_[block].word & ~uint64_t{0} << begin % ByteBlock::kBytes;
  while (others == 0) others = ~kinds_[++block].word;
  return block * ByteBlock::kBytes + static_cast<size_t>(std::countr_zero(others));
}

void TextFeatures::AddAll(std::string_view text) {
  size_t behind_tag = 0;
  for (size_t block = 0; block * ByteBlock::kBytes < text.size(); ++block) {
    ForEachBit(kinds_[block].starts, [&](size_t bit) {
      const size_t at = block * ByteBlock::kBytes + bit;
      if (at < behind_tag) return;
      if (kinds_[block].word >> bit & 1) {
        AddToken(HashText({folded_.data() + at, WordEnd(at) - at}, seed_));
      } else if (text[at] == '<') {
        behind_tag = static_cast<size_t>(BehindTag(text.data() + at, text.data() + text.size()) - text.data());
      } else {
        AddToken(HashText({folded_.data() + at, 1}, seed_));
      }
    });
  }
}

// Every n-gram that ends with this token: one mix each, from the (n-1)-gram that ended with the token before.
void TextFeatures::AddToken(uint64_t token) {
  grams_[gram_count_++] = token;
  for (uint32_t n = std::min(depth_, ngrams_ - 1); n > 0; --n) {
    const uint64_t gram = MixPair(ending_[n - 1], token);
    grams_[gram_count_++] = gram;
    ending_[n] = gram;
  }
  ending_[0] = token;
  depth_ = std::min(depth_ + 1, ngrams_);
}

Status ValidateTextSpec(const pb::TextSpec& spec) {
  if (spec.ngrams() >= 1 && spec.ngrams() <= TextFeatures::kMostNgrams) return {};
  return Fail(ErrorCode::kInvalidArgument, "data.text.ngrams is ", spec.ngrams(), "; use 1..",
              TextFeatures::kMostNgrams);
}

Result<std::unique_ptr<RowParser>> MakeTextLineParser(const pb::DataSpec& spec, LabelRule labels) {
  SHEAF_RETURN_IF_ERROR(ValidateTextSpec(spec.text()));
  return std::unique_ptr<RowParser>(std::make_unique<TextLineParser>(spec, labels));
}

}  // namespace sheaf
