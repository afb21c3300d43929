#include "cli/args.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/nearest.h"

namespace sheaf::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

CommandLine Example() {
  CommandLine command{
      .name = "sheaf run", .operands = "JOB", .summary = "runs", .least_operands = 1, .most_operands = 1};
  command.options = {
      {.name = "servers",
       .kind = Option::kInteger,
       .value_name = "N",
       .fallback = "2",
       .help = "servers",
       .least = 1,
       .most = 64},
      {.name = "set", .kind = Option::kList, .value_name = "F=V", .help = "sets"},
      {.name = "data", .kind = Option::kList, .value_name = "FILE", .help = "files", .greedy = true},
      {.name = "log_dir", .value_name = "DIR", .help = "logs"},
      {.name = "output",
       .value_name = "FORMAT",
       .fallback = "table",
       .help = "form",
       .choices = {"table", "json"},
       .letter = 'o'},
      {.name = "follow", .kind = Option::kFlag, .help = "wait"},
  };
  return command;
}

std::string ErrorOf(const std::vector<std::string>& words) {
  const auto args = Args::Parse(Example(), words);
  return args ? "no error" : args.error().message;
}

TEST(Args, TakesOptionsInEveryForm) {
  const auto args = Args::Parse(
      Example(), {"--servers=3", "job", "--set", "a=1", "--set=b=2", "-o", "json", "--log-dir", "x", "--follow"});
  ASSERT_TRUE(args) << args.error().message;
  EXPECT_EQ(args->Integer("servers"), 3);
  EXPECT_THAT(args->operands(), ElementsAre("job"));
  EXPECT_THAT(args->List("set"), ElementsAre("a=1", "b=2"));
  EXPECT_EQ(args->Text("output"), "json");
  EXPECT_EQ(args->Text("log_dir"), "x");
  EXPECT_TRUE(args->Flag("follow"));
}

TEST(Args, RefusesAnEmptyValueOfAnyOption) {
  for (const std::string option : {"servers", "set", "data", "log_dir", "output"}) {
    EXPECT_THAT(ErrorOf({"job", "--" + option, ""}), HasSubstr("--" + option + " must not be empty")) << option;
    EXPECT_THAT(ErrorOf({"job", "--" + option + "="}), HasSubstr("--" + option + " must not be empty")) << option;
  }
}

TEST(Args, GreedyListTakesAllUpToTheNextOption) {
  const auto args = Args::Parse(Example(), {"job", "--data", "a", "b", "--servers", "1"});
  ASSERT_TRUE(args) << args.error().message;
  EXPECT_THAT(args->List("data"), ElementsAre("a", "b"));
}

TEST(Args, NamesTheNearestOption) {
  EXPECT_EQ(ErrorOf({"job", "--server", "2"}), "sheaf run: no option --server; did you mean \"--servers\"?");
}

TEST(Args, NamesTheRange) {
  EXPECT_EQ(ErrorOf({"job", "--servers", "0"}), "sheaf run: --servers 0: must be from 1 to 64");
}

TEST(Args, RefusesWhatIsNoNumberChoiceOrOperand) {
  EXPECT_THAT(ErrorOf({"job", "--servers", "two"}), HasSubstr("not a whole number"));
  EXPECT_THAT(ErrorOf({"job", "-o", "jsn"}), HasSubstr("did you mean \"json\"?"));
  EXPECT_THAT(ErrorOf({}), HasSubstr("JOB is missing"));
  EXPECT_THAT(ErrorOf({"a", "b"}), HasSubstr("one argument too many: b"));
  EXPECT_THAT(ErrorOf({"a", "--servers"}), HasSubstr("--servers needs a value: --servers N"));
  EXPECT_THAT(ErrorOf({"a", "--follow=1"}), HasSubstr("takes no value"));
}

TEST(Suggestion, NamesTheNearestOrAll) {
  EXPECT_EQ(Suggestion("epohcs", {"epochs", "seed"}), "; did you mean \"epochs\"?");
  EXPECT_EQ(Suggestion("zzzzz", {"epochs", "seed"}), "; one of: epochs, seed");
}

}  // namespace
}  // namespace sheaf::cli
