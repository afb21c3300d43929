#include "common/base/strings.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

using std::chrono::microseconds;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(Strings, SplitKeepsEmptyPieces) {
  EXPECT_EQ(Split("a,,b", ','), (std::vector<std::string_view>{"a", "", "b"}));
  EXPECT_EQ(Split("a,", ','), (std::vector<std::string_view>{"a", ""}));
  EXPECT_TRUE(Split("", ',').empty());
}

TEST(Strings, TrimAndJoin) {
  EXPECT_EQ(Trim(" \t a b \r\n"), "a b");
  EXPECT_EQ(Trim("  "), "");
  EXPECT_EQ(Join({"a", "", "c"}, ", "), "a, , c");
  EXPECT_EQ(Join({}, ", "), "");
}

TEST(Strings, EditDistanceCountsSwappedNeighboursOnce) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("port", "prot"), 1u);
}

TEST(Strings, NearestNameFindsTyposAndBeginnings) {
  const std::vector<std::string> names = {"scheduler", "shards", "workers_per_host", "port"};
  EXPECT_EQ(NearestName("schedular", names), "scheduler");
  EXPECT_EQ(NearestName("prot", names), "port");
  EXPECT_EQ(NearestName("SHARD", names), "shards");
  EXPECT_EQ(NearestName("workers", names), "workers_per_host");
  EXPECT_EQ(NearestName("unrelated", names), "");
  EXPECT_EQ(NearestName("x", {"y"}), "");
  EXPECT_EQ(DidYouMean("prot", names, "--"), ", did you mean --port?");
  EXPECT_EQ(DidYouMean("unrelated", names), "");
}

TEST(Strings, FormatsBytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(~0ULL), "16.0 EiB");
}

TEST(Strings, FormatsCountsWithASpaceBetweenThousands) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1284), "1 284");
  EXPECT_EQ(FormatCount(1234567890), "1 234 567 890");
}

TEST(Strings, FormatsDurations) {
  EXPECT_EQ(FormatDuration(seconds(760)), "00:12:40");
  EXPECT_EQ(FormatDuration(seconds(360'000)), "100:00:00");
  EXPECT_EQ(FormatDuration(seconds(-5)), "00:00:00");
  EXPECT_EQ(FormatSeconds(microseconds(850)), "850 us");
  EXPECT_EQ(FormatSeconds(microseconds(12'340)), "12.3 ms");
  EXPECT_EQ(FormatSeconds(Milliseconds(3'200)), "3.2 s");
  EXPECT_EQ(FormatSeconds(seconds(760)), "12 min 40 s");
  EXPECT_EQ(FormatSeconds(minutes(150)), "2 h 30 min");
  EXPECT_EQ(FormatFixed(0.45119, 4), "0.4512");
}

TEST(Strings, ParsesWholeTextsOnly) {
  EXPECT_EQ(*ParseUint("18446744073709551615"), ~0ULL);
  EXPECT_EQ(*ParseInt("-12"), -12);
  EXPECT_EQ(*ParseDouble("1e-3"), 1e-3);
  for (const char* wrong : {"", " 1", "1 ", "-1", "+1", "1.5", "0x10", "18446744073709551616"}) {
    const auto parsed = ParseUint(wrong);
    ASSERT_FALSE(parsed) << wrong;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(parsed.error().message.find(wrong), std::string::npos);
  }
}

TEST(Strings, ParsesSizesAndDurations) {
  EXPECT_EQ(*ParseBytes("4096"), 4096u);
  EXPECT_EQ(*ParseBytes("64KiB"), 65536u);
  EXPECT_EQ(*ParseBytes("1.5 GiB"), 3ULL << 29);
  EXPECT_EQ(*ParseBytes("2MB"), 2'000'000u);
  EXPECT_EQ(*ParseDuration("500ms"), Milliseconds(500));
  EXPECT_EQ(*ParseDuration("2min"), minutes(2));
  for (const char* wrong : {"", "KiB", "-1", "1 parsec", "1.2.3KiB", "99999999TiB"})
    EXPECT_FALSE(ParseBytes(wrong)) << wrong;
  for (const char* wrong : {"", "10", "s", "-1s", "1e9h", "9999999999h"}) EXPECT_FALSE(ParseDuration(wrong)) << wrong;
}

}  // namespace
}  // namespace sheaf
