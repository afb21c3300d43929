#include "worker/data/text_features.h"

#include <algorithm>
#include <cstring>

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
      seed_(MixKey(hash_seed)) {
  for (size_t byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<unsigned char>(byte);
    const bool upper = static_cast<unsigned char>(c - 'A') < 26;
    const bool word = c >= 0x80 || upper || static_cast<unsigned char>(c - 'a') < 26 ||
                      static_cast<unsigned char>(c - '0') < 10 || c == '\'';
    kind_[byte] = word ? ByteKind::kWord : ByteKind::kBreak;
    folded_[byte] = static_cast<char>(upper && spec.lowercase() ? c + 32 : c);
  }
  for (const char c : kAlone) kind_[static_cast<unsigned char>(c)] = ByteKind::kAlone;
  if (spec.strip_html()) kind_['<'] = ByteKind::kTag;
}

void TextFeatures::AddFeatures(std::string_view document, RowBuilder& rows) {
  if (skip_headers_) document = WithoutHeaders(document);
  if (word_.size() < document.size()) word_.resize(document.size());
  depth_ = 0;
  counts_ ? AddAll<true>(document, rows) : AddAll<false>(document, rows);
}

template <bool counts>
void TextFeatures::AddAll(std::string_view text, RowBuilder& rows) {
  const char* p = text.data();
  const char* const end = p + text.size();
  char* const word = word_.data();
  while (p < end) {
    switch (kind_[static_cast<unsigned char>(*p)]) {
      case ByteKind::kWord: {
        size_t length = 0;
        do {
          word[length++] = folded_[static_cast<unsigned char>(*p++)];
        } while (p < end && kind_[static_cast<unsigned char>(*p)] == ByteKind::kWord);
        AddToken<counts>(HashText({word, length}, seed_), rows);
        break;
      }
      case ByteKind::kAlone: AddToken<counts>(HashText({p++, 1}, seed_), rows); break;
      case ByteKind::kTag: p = BehindTag(p, end); break;
      case ByteKind::kBreak: ++p; break;
    }
  }
}

// Every n-gram that ends with this token: one mix each, from the (n-1)-gram that ended with the token before.
template <bool counts>
void TextFeatures::AddToken(uint64_t token, RowBuilder& rows) {
  const auto add = [&](uint64_t raw_key) { counts ? rows.AddSum(raw_key, 1.0f) : rows.AddOnce(raw_key); };
  add(token);
  for (uint32_t n = std::min(depth_, ngrams_ - 1); n > 0; --n) {
    const uint64_t gram = MixPair(ending_[n - 1], token);
    add(gram);
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
