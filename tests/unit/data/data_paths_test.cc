#include "worker/data/data_paths.h"

#include <gmock/gmock.h>

#include <set>

#include "tests/unit/data/temp_files.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Paths(const std::string& pattern, const std::string& dir) {
  std::vector<std::string> paths;
  const auto matches = ResolvePattern(pattern, dir).value();
  for (const auto& match : matches) paths.push_back(match.path);
  return paths;
}

TEST(DataPaths, StayBelowTheDataFolder) {
  EXPECT_EQ(DataPath("a/b", "/data").value(), "/data/a/b");
  EXPECT_EQ(DataPath("a/b", "/data/").value(), "/data/a/b");
  EXPECT_EQ(DataPath("a/b", "").value(), "a/b");
  EXPECT_EQ(DataPath("/x/y", "/data").value(), "/x/y");
  EXPECT_EQ(DataPath("a..b/..c", "/data").value(), "/data/a..b/..c");
  for (const std::string& bad :
       {std::string("../a"), std::string("a/../b"), std::string("a/.."), std::string(), std::string("a\0b", 3)}) {
    EXPECT_FALSE(DataPath(bad, "/data")) << bad;
  }
}

TEST(DataPaths, ResolvePatternsInByteOrder) {
  const TempFiles files;
  for (const char* name : {"b.tsv", "a.tsv", "B.tsv", "c.txt", "sub/d.tsv"}) files.Write(name, "x");
  EXPECT_THAT(Paths("*.tsv", files.root()), ElementsAre("B.tsv", "a.tsv", "b.tsv"));
  EXPECT_THAT(Paths("{c,a,a*}.t*", files.root() + "/"), ElementsAre("a.tsv", "c.txt"));
  EXPECT_THAT(Paths("sub/?.tsv", files.root()), ElementsAre("sub/d.tsv"));
  EXPECT_THAT(Paths(files.root() + "/[ab].tsv", "/nowhere"),
              ElementsAre(files.root() + "/a.tsv", files.root() + "/b.tsv"));
}

TEST(DataPaths, TakeSpecialLettersOfRealNamesAsTheyAre) {
  const TempFiles files;
  files.Write("run[1]{x,y}*/part*[2].tsv", "x");
  files.Write("run[1]{x,y}*/parta2.tsv", "x");
  const std::string dir = files.Path("run[1]{x,y}*");
  EXPECT_THAT(Paths("part*[2].tsv", dir), ElementsAre("part*[2].tsv"));
  EXPECT_THAT(Paths("part*", dir), ElementsAre("part*[2].tsv", "parta2.tsv"));
}

TEST(DataPaths, NameThePatternAndTheFolderIfNothingMatches) {
  const TempFiles files;
  const auto result = ResolvePattern("*.tsv", files.root());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(result.error().message, HasSubstr("*.tsv"));
  EXPECT_THAT(result.error().message, HasSubstr(files.root()));
  EXPECT_THAT(result.error().message, HasSubstr("--data or SHEAF_DATA"));
}

std::set<std::pair<std::string, uint32_t>> NamesAndLabels(const DocumentSet& set) {
  std::set<std::pair<std::string, uint32_t>> found;
  for (const auto& document : set.documents) found.emplace(document.name, set.folders[document.folder].label);
  return found;
}

DocumentSet List(const std::string& pattern, const TempFiles& files, uint64_t seed = 1) {
  return ListDocuments(pattern, ResolvePattern(pattern, files.root()).value(), files.root(), seed).value();
}

TEST(DocumentSet, NumbersLabelFoldersByName) {
  const TempFiles files;
  files.Write("train/pos/1.txt", "x");
  files.Write("train/neg/2.txt", "x");
  files.Write("train/neg/3.txt", "x");
  files.Write("train/neg/.hidden", "x");
  files.Write("train/urls.txt", "no document");
  const std::set<std::pair<std::string, uint32_t>> expected{{"1.txt", 1}, {"2.txt", 0}, {"3.txt", 0}};
  for (const char* pattern : {"train", "train/", "train/{pos,neg}", "train/{neg,pos}", "train/[np]*", "tr*"}) {
    const DocumentSet set = List(pattern, files);
    EXPECT_THAT(set.labels, ElementsAre("neg", "pos")) << pattern;
    EXPECT_EQ(NamesAndLabels(set), expected) << pattern;
  }
}

TEST(DocumentSet, MergesEqualLabelsOfSeveralFolders) {
  const TempFiles files;
  for (const char* name : {"a/x/1", "a/y/2", "b/x/3", "b/y/4"}) files.Write(name, "t");
  const DocumentSet set = List("{a,b}", files);
  EXPECT_THAT(set.labels, ElementsAre("x", "y"));
  EXPECT_EQ(NamesAndLabels(set).count({"3", 0}), 1u);
  EXPECT_EQ(set.documents.size(), 4u);
}

TEST(DocumentSet, MixesLabelsBySeed) {
  const TempFiles files;
  for (int i = 0; i < 100; ++i) files.Write((i % 2 == 0 ? "neg/" : "pos/") + std::to_string(i), "t");
  const auto order = [&](uint64_t seed) {
    std::vector<std::string> names;
    for (const auto& document : List("{neg,pos}", files, seed).documents) names.push_back(document.name);
    return names;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
  const DocumentSet set = List("{neg,pos}", files);
  uint32_t ones = 0;
  for (size_t i = 0; i < 50; ++i) ones += set.folders[set.documents[i].folder].label;
  EXPECT_GT(ones, 10u);
  EXPECT_LT(ones, 40u);
}

TEST(DocumentSet, RefusesOneLabelAndEmptyLabels) {
  const TempFiles files;
  files.Write("train/neg/1", "t");
  const auto matches = ResolvePattern("train/neg", files.root()).value();
  const auto one = ListDocuments("train/neg", matches, files.root(), 1);
  ASSERT_FALSE(one);
  EXPECT_THAT(one.error().message, HasSubstr("1 label"));
  files.MakeFolder("train/pos");
  const auto empty = ListDocuments("train", ResolvePattern("train", files.root()).value(), files.root(), 1);
  ASSERT_FALSE(empty);
  EXPECT_THAT(empty.error().message, HasSubstr("without documents"));
}

}  // namespace
}  // namespace sheaf
