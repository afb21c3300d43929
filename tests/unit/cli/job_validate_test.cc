#include "cli/job_validate.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace sheaf::cli {
namespace {

using ::testing::HasSubstr;

// Problems of a good job with `text` merged into it, joined.
std::string Problems(const std::string& text) {
  pb::JobSpec spec;
  spec.set_name("x");
  spec.mutable_data()->set_format(pb::DataSpec::LIBSVM);
  spec.mutable_data()->add_train("a");
  pb::JobSpec more;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &more)) << text;
  spec.MergeFrom(more);
  std::string all;
  for (const FieldProblem& problem : FindProblems(spec)) all += problem.path + " " + problem.text + "\n";
  return all;
}

TEST(JobValidate, AcceptsDefaults) { EXPECT_EQ(Problems(""), ""); }

TEST(JobValidate, FindsEveryProblemAtOnce) {
  const std::vector<FieldProblem> problems = FindProblems(pb::JobSpec());
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_EQ(problems[0].path, "name");
  EXPECT_EQ(problems[1].path, "data.format");
  EXPECT_EQ(problems[2].path, "data.train");
}

struct Case {
  const char* text;
  const char* problem;
};

class JobValidateRule : public ::testing::TestWithParam<Case> {};

TEST_P(JobValidateRule, NamesFieldValueAndRange) {
  EXPECT_THAT(Problems(GetParam().text), HasSubstr(GetParam().problem));
}

INSTANTIATE_TEST_SUITE_P(
    All, JobValidateRule,
    ::testing::Values(
        Case{"name: 'a b'", "name is \"a b\""}, Case{"name: '../x'", "name is"},
        Case{"data { max_line_bytes: 1 }", "data.max_line_bytes is 1, must be from 16 to"},
        Case{"data { train: '' }", "data.train[1] is empty"},
        Case{"data { clicks { } }", "data.clicks is for data.format CLICKS"},
        Case{"data { text { } }", "data.text is for data.format TEXT"},
        Case{"data { format: CLICKS clicks { separator: 'ab' } }", "data.clicks.separator must be one character"},
        Case{"data { format: CLICKS clicks { label_column: 'label' } }", "must be a 0-based index"},
        Case{"data { format: CLICKS clicks { header: true cross: 'a' } }", "must be two columns"},
        Case{"data { format: TEXT text { ngrams: 0 } }", "data.text.ngrams is 0, must be from 1 to 8"},
        Case{"data { format: TEXT text { weighting: NB_LOG_COUNT_RATIO } } model { loss: SOFTMAX classes: 3 }",
             "needs model.loss LOGISTIC, not SOFTMAX"},
        Case{"model { loss: SOFTMAX }", "model.classes is missing"},
        Case{"model { loss: SOFTMAX classes: 1 }", "model.classes is 1, must be from 2 to 65536"},
        Case{"model { classes: 3 }", "has no classes to choose from"},
        Case{"model { kind: FACTORIZATION_MACHINE loss: SOFTMAX classes: 3 }",
             "which FACTORIZATION_MACHINE does not know"},
        Case{"model { kind: FACTORIZATION_MACHINE factors: 0 }", "model.factors is 0, must be from 1"},
        Case{"optimizer { learning_rate: 0 }", "optimizer.learning_rate is 0, must be greater than 0"},
        Case{"optimizer { learning_rate: nan }", "optimizer.learning_rate is nan"},
        Case{"optimizer { learning_rate: inf }", "optimizer.learning_rate is inf"},
        Case{"optimizer { learning_rate_decay: 1.5 }", "optimizer.learning_rate_decay is 1.5"},
        Case{"optimizer { momentum: 1 }", "must be at least 0 and less than 1"},
        Case{"optimizer { l2: -1 }", "optimizer.l2 is -1, must be at least 0"},
        Case{"optimizer { weight_decay: 0.1 }", "is for optimizer.kind ADAMW, not ADAGRAD"},
        Case{"train { epochs: 0 }", "train.epochs is 0"}, Case{"train { batch_size: 0 }", "train.batch_size is 0"},
        Case{"train { range_batches: 1025 }", "train.range_batches is 1025, must be from 1 to 1024"},
        Case{"consistency { staleness: 5000 }", "consistency.staleness is 5000"},
        Case{"wire { pull: INT8 }", "wire.pull is INT8, which is for pushes only"},
        Case{"wire { push: INT8 } consistency { mode: BSP }", "wire.push is INT8, whose rounding errors each worker keeps"}));

TEST(JobValidate, PutsTheOriginInFront) {
  const Status status = ValidateJob(pb::JobSpec(), [](const std::string& path) { return "f:" + path; });
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("f:data.train: data.train is missing"));
}

}  // namespace
}  // namespace sheaf::cli
