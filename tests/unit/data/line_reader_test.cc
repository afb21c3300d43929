#include "worker/data/line_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace sheaf {
namespace {

// Gives `step` bytes at a time: lines must not depend on where reads end.
class SlowStream final : public ByteStream {
 public:
  SlowStream(std::string text, size_t step) : inner_(MakeMemoryStream(std::move(text))), step_(step) {}
  Result<size_t> Read(std::span<char> out) override { return inner_->Read(out.first(std::min(step_, out.size()))); }

 private:
  std::unique_ptr<ByteStream> inner_;
  size_t step_;
};

struct Line {
  std::string text;
  uint64_t number;
  uint64_t offset;
  bool operator==(const Line&) const = default;
};

std::vector<Line> Lines(const std::string& text, LineReader::Options options = {}, size_t step = 1 << 20) {
  LineReader reader(std::make_unique<SlowStream>(text, step), options);
  std::vector<Line> lines;
  for (;;) {
    const auto event = reader.Next();
    if (!event.has_value() || *event == LineReader::Event::kEnd) return lines;
    lines.push_back({*event == LineReader::Event::kTooLong ? "<too long>" : std::string(reader.line()),
                     reader.line_number(), reader.line_offset()});
  }
}

TEST(LineReader, SplitsAtBothKindsOfLineEnd) {
  const std::vector<Line> expected{{"a", 1, 0}, {"bc", 2, 3}, {"d", 3, 6}};
  for (const size_t step : {1u, 2u, 100u}) EXPECT_EQ(Lines("a\r\nbc\nd", {}, step), expected);
  EXPECT_EQ(Lines("a\r\nbc\nd\n"), expected);
}

TEST(LineReader, PassesBlankLinesAndCommentsButCountsThem) {
  const std::vector<Line> expected{{"a", 2, 1}, {"#b", 5, 6}};
  EXPECT_EQ(Lines("\na\n\r\n\n#b\n\n"), expected);
  EXPECT_EQ(Lines("# c\na\n#\nb", {.comment = '#'}), (std::vector<Line>{{"a", 2, 4}, {"b", 4, 8}}));
  EXPECT_TRUE(Lines("").empty());
  EXPECT_TRUE(Lines("\n\r\n\n").empty());
}

TEST(LineReader, DropsAByteOrderMark) {
  EXPECT_EQ(Lines("\xef\xbb\xbf" "a\nb"), (std::vector<Line>{{"a", 1, 3}, {"b", 2, 5}}));
  EXPECT_TRUE(Lines("\xef\xbb\xbf").empty());
}

TEST(LineReader, ReportsALineThatIsTooLongAndGoesOnBehindIt) {
  const std::string longer(1'000'001, 'x');
  const std::vector<Line> expected{{"a", 1, 0}, {"<too long>", 2, 2}, {"b", 3, 1'000'004}};
  for (const size_t step : {777u, 1u << 20}) {
    EXPECT_EQ(Lines("a\n" + longer + "\nb", {.max_line_bytes = 1'000'000}, step), expected);
    EXPECT_EQ(Lines("a\n" + longer + "\nb", {.max_line_bytes = 10}, step), expected);
    EXPECT_EQ(Lines("a\n" + longer + "\nb", {.max_line_bytes = 1'000'001}, step)[1].text, longer);
    EXPECT_EQ(Lines("a\n" + longer, {.max_line_bytes = 10}, step).size(), 2u);
  }
  EXPECT_EQ(Lines("12345\r\n", {.max_line_bytes = 5})[0].text, "12345");
  EXPECT_EQ(Lines("123456\r\n", {.max_line_bytes = 5})[0].text, "<too long>");
}

TEST(LineReader, SeeksForwardAndBack) {
  std::string text;
  std::vector<uint64_t> offsets;
  for (int i = 0; i < 200'000; ++i) {
    offsets.push_back(text.size());
    text += std::to_string(i) + "\n";
  }
  LineReader reader(MakeMemoryStream(text), {});
  for (const int i : {5, 6, 199'999, 0, 100'000, 100'001, 99'990, 3}) {
    ASSERT_TRUE(reader.Seek(offsets[static_cast<size_t>(i)]));
    ASSERT_TRUE(reader.Next().value() == LineReader::Event::kLine);
    EXPECT_EQ(reader.line(), std::to_string(i));
    EXPECT_EQ(reader.line_offset(), offsets[static_cast<size_t>(i)]);
    EXPECT_EQ(reader.next_offset(), offsets[static_cast<size_t>(i)] + std::to_string(i).size() + 1);
  }
}

}  // namespace
}  // namespace sheaf
