#include "cli/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace sheaf::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kGood[] = R"(
name: "adult"
data { format: LIBSVM train: "a9a" test: "a9a.t" }
train { epochs: 5 batch_size: 64 }
)";

std::string ErrorOf(const std::string& text) {
  const auto job = ParseJobText(text, "x.textproto");
  return job ? "no error" : job.error().message;
}

class JobFileOnDisk : public ::testing::Test {
 protected:
  std::string Write(const std::string& text, const std::string& name = "adult.job.textproto") {
    // Tests run side by side, each in a process of its own.
    const std::string folder = ::testing::TempDir() + "sheaf-job-file-" + std::to_string(getpid());
    std::filesystem::create_directories(folder);
    const std::string path = folder + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
};

TEST(JobFile, ReadsFieldsAndKeepsDefaults) {
  const auto job = ParseJobText(kGood, "x");
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->spec.train().batch_size(), 64u);
  EXPECT_EQ(job->spec.train().range_batches(), 8u);
}

TEST(JobFile, NamesLineColumnAndNearestFieldOfAnUnknownField) {
  EXPECT_EQ(ErrorOf("train {\n  batchsize: 64\n}"),
            "x.textproto:2:3: no field \"batchsize\" in TrainSpec; did you mean \"batch_size\"?");
}

TEST(JobFile, ListsTheFieldsIfNoneIsNear) {
  EXPECT_THAT(ErrorOf("consistency { zzzzzzzz: 1 }"), HasSubstr("in ConsistencySpec; one of: mode, staleness"));
}

TEST(JobFile, NamesTheNearestValueOfTheRightEnum) {
  EXPECT_EQ(ErrorOf("model { kind: LINEAR }\noptimizer {\n  # kind {\n  kind: ADAGARD\n}"),
            "x.textproto:4:9: no value \"ADAGARD\" for OptimizerSpec.kind; did you mean \"ADAGRAD\"?");
}

TEST(JobFile, SaysWhatAFieldTakes) {
  EXPECT_THAT(ErrorOf("train { epochs: -1 }"), HasSubstr("TrainSpec.epochs takes a whole number from 0 to 4294967295"));
  EXPECT_THAT(ErrorOf("train { epochs: 5000000000 }"), HasSubstr("TrainSpec.epochs takes a whole number"));
  EXPECT_THAT(ErrorOf("model { bias: 7 }"), HasSubstr("ModelSpec.bias takes true or false"));
}

TEST(JobFile, RefusesAFieldGivenTwice) {
  EXPECT_THAT(ErrorOf("train { epochs: 1 epochs: 2 }"), HasSubstr("\"epochs\" is given twice"));
}

TEST(JobFile, RefusesBinaryGarbage) { EXPECT_THAT(ErrorOf("\x01\x02{{{"), StartsWith("x.textproto:1:")); }

TEST(JobFile, RemembersWhereAFieldWasSet) {
  const auto job = ParseJobText(kGood, "x");
  ASSERT_TRUE(job);
  EXPECT_EQ(job->OriginOf("train.batch_size"), "x:4:19");
  EXPECT_EQ(job->OriginOf("data.train[0]"), "x:3:23");
  EXPECT_EQ(job->OriginOf("train.seed"), "x:4:1");
}

TEST(JobFile, SettingsReplaceValues) {
  auto job = ParseJobText(kGood, "x");
  ASSERT_TRUE(job);
  for (const char* setting : {"train.batch_size=32", "data.train=a,b", "consistency.mode=bsp", "model.bias=false",
                              "optimizer.learning_rate=0.5", "wire.push=BF16", "data.clicks.separator=\\t"}) {
    const Status set = ApplySetting(setting, *job);
    EXPECT_TRUE(set) << set.error().message;
  }
  EXPECT_EQ(job->spec.train().batch_size(), 32u);
  EXPECT_EQ(job->spec.data().train_size(), 2);
  EXPECT_EQ(job->spec.consistency().mode(), pb::ConsistencySpec::BSP);
  EXPECT_FALSE(job->spec.model().bias());
  EXPECT_EQ(job->spec.data().clicks().separator(), "\t");
  EXPECT_EQ(job->OriginOf("data.train[1]"), "--set data.train=a,b");
}

TEST(JobFile, ExplainsWrongSettings) {
  auto job = ParseJobText(kGood, "x");
  ASSERT_TRUE(job);
  const auto error = [&](const std::string& setting) {
    const Status status = ApplySetting(setting, *job);
    return status ? "no error" : status.error().message;
  };
  EXPECT_EQ(error("train.batchsize=1"),
            "--set train.batchsize=1: no field \"batchsize\" in TrainSpec; did you mean \"batch_size\"?");
  EXPECT_EQ(error("consistency.mode=SSPP"),
            "--set consistency.mode=SSPP: consistency.mode: no value \"SSPP\"; did you mean \"SSP\"?");
  EXPECT_THAT(error("train.epochs=many"), HasSubstr("\"many\" is not a whole number"));
  EXPECT_THAT(error("train=1"), HasSubstr("group of fields"));
  EXPECT_THAT(error("train.epochs"), HasSubstr("must be FIELD=VALUE"));
  EXPECT_THAT(error("train.epochs.x=1"), HasSubstr("has no fields"));
}

TEST_F(JobFileOnDisk, SettingsBeatEnvironmentBeatsFile) {
  const std::string path = Write(kGood);
  const Environment environment = {{"SHEAF_JOB_TRAIN__BATCH_SIZE", "16"}, {"SHEAF_JOB_TRAIN__EPOCHS", "9"}};
  const auto job = LoadJobFile(path, environment, {"train.epochs=2"});
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->spec.train().batch_size(), 16u);
  EXPECT_EQ(job->spec.train().epochs(), 2u);
}

TEST_F(JobFileOnDisk, NamesTheVariableThatIsWrong) {
  const auto job = LoadJobFile(Write(kGood), {{"SHEAF_JOB_TRAIN__EPOCH", "1"}}, {});
  ASSERT_FALSE(job);
  EXPECT_THAT(job.error().message, HasSubstr("environment SHEAF_JOB_TRAIN__EPOCH: no field \"epoch\""));
}

TEST_F(JobFileOnDisk, ValidatesWithTheLineOfTheField) {
  const std::string path = Write("data { format: LIBSVM train: \"a\" }\ntrain { range_batches: 2000 }\n");
  const auto job = LoadJobFile(path, {}, {});
  ASSERT_FALSE(job);
  EXPECT_EQ(job.error().message, path + ":2:9: train.range_batches is 2000, must be from 1 to 1024");
}

TEST_F(JobFileOnDisk, NamesTheJobAfterItsFile) {
  const auto job = LoadJobFile(Write("data { format: LIBSVM train: \"a\" }", "my job.job.textproto"), {}, {});
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(job->spec.name(), "my-job");
}

TEST_F(JobFileOnDisk, MayBeginWithAByteOrderMark) {
  const auto job = LoadJobFile(Write(std::string("\xef\xbb\xbf") + kGood), {}, {});
  EXPECT_TRUE(job) << job.error().message;
}

TEST_F(JobFileOnDisk, SaysWhichFileIsMissingOrNoJob) {
  const auto missing = LoadJobFile("/nowhere/x.textproto", {}, {});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("/nowhere/x.textproto"));
  const auto folder = LoadJobFile("/tmp", {}, {});
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message, HasSubstr("is a folder"));
  const auto binary = LoadJobFile(Write(std::string("a\0b", 3)), {}, {});
  ASSERT_FALSE(binary);
  EXPECT_THAT(binary.error().message, HasSubstr("binary"));
}

}  // namespace
}  // namespace sheaf::cli
