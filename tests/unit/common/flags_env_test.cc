#include "common/runtime/flags_env.h"

#include <gflags/gflags.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "common/base/build_info.h"
#include "common/runtime/exit_codes.h"

DEFINE_string(unit_address, "tcp://*:7000", "Where to listen.");
DEFINE_int32(unit_shard_count, 2, "How many shards.");
DEFINE_bool(unit_verbose, false, "Say more.");
DEFINE_uint64(unit_memory, 0, "Bytes.");

namespace sheaf {
namespace {

class FlagsEnv : public testing::Test {
 protected:
  ParsedFlags Parse(std::vector<const char*> words) {
    words.insert(words.begin(), "sheaf-unit");
    out_.str("");
    err_.str("");
    return ParseFlags(
        static_cast<int>(words.size()), words.data(),
        {.name = "sheaf-unit", .usage = "[flags] FILE", .summary = "Tests flags.", .takes_arguments = true}, out_,
        err_);
  }
  void SetEnv(const char* name, const char* value) {
    setenv(name, value, 1);
    set_.push_back(name);
  }
  void TearDown() override {
    for (const char* name : set_) unsetenv(name);
  }

  gflags::FlagSaver saver_;
  std::ostringstream out_;
  std::ostringstream err_;
  std::vector<const char*> set_;
};

TEST_F(FlagsEnv, ReadsEveryWayToWriteAFlag) {
  const auto parsed =
      Parse({"--unit_address=a", "-unit-shard-count", "7", "first", "--unit_verbose", "second", "--", "--third"});
  EXPECT_FALSE(parsed.exit_code);
  EXPECT_EQ(FLAGS_unit_address, "a");
  EXPECT_EQ(FLAGS_unit_shard_count, 7);
  EXPECT_TRUE(FLAGS_unit_verbose);
  EXPECT_EQ(parsed.arguments, (std::vector<std::string>{"first", "second", "--third"}));
  Parse({"--nounit_verbose", "--unit_shard_count", "-3", "-"});
  EXPECT_FALSE(FLAGS_unit_verbose);
  EXPECT_EQ(FLAGS_unit_shard_count, -3);
}

TEST_F(FlagsEnv, RefusesAWordThatIsNoFlagWhereNoneIsTaken) {
  const char* const words[] = {"sheaf-unit", "--unit_verbose", "true"};  // as in "--port 1 2": the value went elsewhere
  const auto parsed = ParseFlags(3, words, {.name = "sheaf-unit", .usage = "[flags]", .summary = ""}, out_, err_);
  EXPECT_EQ(parsed.exit_code, 2);
  EXPECT_EQ(err_.str(), "sheaf-unit: \"true\" is no flag: flags begin with -- (--help lists the flags)\n");
}

TEST_F(FlagsEnv, TakesFlagsFromTheEnvironmentUnlessTheCommandLineHasThem) {
  SetEnv("SHEAF_UNIT_ADDRESS", "from environment");
  SetEnv("SHEAF_UNIT_SHARD_COUNT", "5");
  SetEnv("SHEAF_UNIT_VERBOSE", "true");
  EXPECT_FALSE(Parse({"--unit_address=from command line"}).exit_code);
  EXPECT_EQ(FLAGS_unit_address, "from command line");
  EXPECT_EQ(FLAGS_unit_shard_count, 5);
  EXPECT_TRUE(FLAGS_unit_verbose);
}

TEST_F(FlagsEnv, AnswersAnUnknownFlagWithOneLineAndTheNearestName) {
  EXPECT_EQ(Parse({"--unit_adress=x"}).exit_code, kExitUsage);
  EXPECT_EQ(err_.str(),
            "sheaf-unit: unknown flag --unit_adress, did you mean --unit_address? (--help lists the flags)\n");
  EXPECT_EQ(Parse({"--zzzzzzzzzz"}).exit_code, kExitUsage);
  EXPECT_EQ(err_.str(), "sheaf-unit: unknown flag --zzzzzzzzzz (--help lists the flags)\n");
  EXPECT_EQ(Parse({"--nounit_address"}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"--flagfile=/etc/passwd"}).exit_code, kExitUsage) << "gflags' own are not ours";
}

TEST_F(FlagsEnv, NamesAWrongValueAndWhereItCameFrom) {
  EXPECT_EQ(Parse({"--unit_shard_count=many"}).exit_code, kExitUsage);
  EXPECT_EQ(err_.str(), "sheaf-unit: --unit_shard_count: \"many\" is not a whole number (--help lists the flags)\n");
  EXPECT_EQ(Parse({"--unit_memory=-1"}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"--unit_shard_count"}).exit_code, kExitUsage);
  EXPECT_NE(err_.str().find("needs a value"), std::string::npos);
  SetEnv("SHEAF_UNIT_SHARD_COUNT", "many");
  EXPECT_EQ(Parse({}).exit_code, kExitUsage);
  EXPECT_NE(err_.str().find("SHEAF_UNIT_SHARD_COUNT: \"many\""), std::string::npos);
}

TEST_F(FlagsEnv, HelpShowsOurFlagsOnly) {
  for (const char* word : {"--help", "-h", "-help"}) {
    EXPECT_EQ(Parse({word}).exit_code, kExitOk);
    const std::string help = out_.str();
    EXPECT_TRUE(help.starts_with("usage: sheaf-unit [flags] FILE\n\nTests flags.\n"));
    EXPECT_NE(help.find("  --unit_address=tcp://*:7000\n      Where to listen.\n"), std::string::npos) << help;
    EXPECT_EQ(help.find("logtostderr"), std::string::npos) << help;
    EXPECT_EQ(help.find("flagfile"), std::string::npos) << help;
  }
}

TEST_F(FlagsEnv, VersionSaysWhatThisBuildIs) {
  EXPECT_EQ(Parse({"--version"}).exit_code, kExitOk);
  EXPECT_EQ(out_.str(), "sheaf-unit: " + BuildText() + "\n");
  EXPECT_NE(BuildText().find("wire " + std::to_string(kWireVersion)), std::string::npos);
}

}  // namespace
}  // namespace sheaf
