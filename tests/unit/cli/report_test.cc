#include "cli/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/progress_line.h"
#include "cli/terminal.h"

namespace sheaf::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

pb::JobStatus Running() {
  pb::JobStatus status;
  status.set_job(3);
  status.set_name("adult");
  status.set_phase(pb::RUNNING);
  status.set_pass_kind(pb::TRAIN);
  status.set_epoch(2);
  status.set_epochs(5);
  status.set_rows_done(63);
  status.set_rows_total(100);
  status.set_work_done(50);
  status.set_work_total(100);
  status.set_elapsed_seconds(12);
  status.set_train_loss(0.28168);
  status.set_examples_per_second(128400);
  status.set_staleness(2);
  status.mutable_brief()->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::SSP);
  return status;
}

pb::JobStatus Finished() {
  pb::JobStatus status = Running();
  status.set_phase(pb::FINISHED);
  status.set_examples_total(1000);
  status.set_train_seconds(2);
  status.add_epoch_train_loss(0.5);
  status.add_epoch_train_loss(0.25);
  for (const pb::PassKind kind : {pb::VALIDATE, pb::VALIDATE, pb::TEST}) {
    pb::EvalResult& result = *status.add_eval();
    result.set_kind(kind);
    result.set_epoch(static_cast<uint32_t>(status.eval_size()));
    result.set_examples(10);
    result.set_accuracy(0.1 * status.eval_size());
    result.set_auc(0.9);
    result.set_loss(0.3);
    for (const uint64_t count : {4, 1, 2, 3}) result.add_confusion(count);
  }
  return status;
}

TEST(ProgressLine, TellsWhereTraining) {
  EXPECT_EQ(ProgressLine(Running(), "", 0),
            "[train adult] epoch 2/5  63 %  loss 0.2817  128 400 ex/s  ETA 00:00:12  stale 2 (max 8)  waits: -");
}

TEST(ProgressLine, TellsTheTimeThatIsLeftInEightyColumns) {
  EXPECT_THAT(ProgressLine(Running(), "worker-1: lane 0 at clock 7", 79), HasSubstr("  ETA 00:00:12"));
}

TEST(ProgressLine, NamesWhoWaits) {
  EXPECT_THAT(ProgressLine(Running(), "worker-1: lane 0 at clock 7", 0),
              HasSubstr("waits: worker-1: lane 0 at clock 7"));
}

TEST(ProgressLine, FitsTheTerminal) {
  EXPECT_EQ(ProgressLine(Running(), "", 20), "[train adult] epo...");
  EXPECT_EQ(ProgressLine(Running(), "", 2).size(), 2u);
}

TEST(ProgressLine, HasNoBoundWithoutOne) {
  pb::JobStatus status = Running();
  status.mutable_brief()->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::ASP);
  EXPECT_THAT(ProgressLine(status, "", 0), HasSubstr("stale 2 (no max)"));
  status.mutable_brief()->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::BSP);
  EXPECT_THAT(ProgressLine(status, "", 0), HasSubstr("stale 2  waits"));
}

TEST(ProgressLine, TellsWhatTheJobWaitsFor) {
  pb::JobStatus status = Running();
  status.set_phase(pb::WAITING);
  status.set_detail("for workers (1 of 2)");
  EXPECT_EQ(ProgressLine(status, "", 0), "[wait adult] for workers (1 of 2)");
}

TEST(ProgressLine, SurvivesAnEmptyStatus) {
  EXPECT_FALSE(ProgressLine(pb::JobStatus(), "", 80).empty());
  pb::JobStatus status;
  status.set_phase(pb::RUNNING);
  EXPECT_THAT(ProgressLine(status, "", 80), HasSubstr("0 %"));
  EXPECT_LT(SecondsLeft(status), 0);
}

TEST(Printable, WritesOutWhatWouldSteerATerminal) {
  EXPECT_EQ(Printable("a\nb"), "a\nb");
  EXPECT_EQ(Printable("\x1b[2J\t\x7f"), "\\x1b[2J\\x09\\x7f");
  EXPECT_EQ(Printable("Gr\u00fc\u00dfe \u4f60"), "Gr\u00fc\u00dfe \u4f60");
  EXPECT_EQ(Printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\xc2\\x9b");
}

TEST(Report, HoldsWhatProgramsAsk) {
  const json report = json::parse(ReportJson(Finished(), {.wall_seconds = 3.5, .servers = 2, .workers = 4}));
  EXPECT_EQ(report["job"], 3);
  EXPECT_EQ(report["status"], "finished");
  EXPECT_EQ(report["examples_total"], 1000);
  EXPECT_EQ(report["examples_per_second"], 500);
  EXPECT_EQ(report["train_loss"], json({0.5, 0.25}));
  EXPECT_EQ(report["mode"], "SSP");
  EXPECT_EQ(report["staleness"], 8);
  EXPECT_EQ(report["workers"], 4);
  EXPECT_EQ(report["valid_by_epoch"].size(), 2u);
  EXPECT_DOUBLE_EQ(report["valid"]["accuracy"], 0.2);
  EXPECT_DOUBLE_EQ(report["test"]["accuracy"], 0.1 * 3);
  EXPECT_EQ(report["test"]["confusion"], json({{4, 1}, {2, 3}}));
  EXPECT_FALSE(report["test"].contains("rmse"));
}

TEST(Report, RegressionsHaveAnErrorInPlaceOfAccuracy) {
  pb::JobStatus status = Finished();
  status.mutable_brief()->mutable_spec()->mutable_model()->set_loss(pb::ModelSpec::SQUARED);
  status.mutable_eval(2)->set_rmse(0.87);
  const json report = json::parse(ReportJson(status, {}));
  EXPECT_EQ(report["test"]["rmse"], 0.87);
  EXPECT_FALSE(report["test"].contains("accuracy"));
}

TEST(Report, IsValidJsonWhateverTheNumbers) {
  pb::JobStatus status = Finished();
  status.mutable_eval(2)->set_loss(std::nan(""));
  status.set_detail("bytes that are no text: \xff");
  const json report = json::parse(ReportJson(status, {}));
  EXPECT_TRUE(report["test"]["logloss"].is_null());
  EXPECT_TRUE(json::parse(ReportJson(pb::JobStatus(), {}))["test"].is_null());
}

TEST(Report, TableHasALineForEachEvaluation) {
  const std::string table = ReportTable(Finished(), {.wall_seconds = 3.5});
  EXPECT_THAT(table, HasSubstr("valid, epoch 2"));
  EXPECT_THAT(table, HasSubstr("accuracy 0.3000  AUC 0.9000"));
  EXPECT_THAT(table, HasSubstr("1 000 examples in 2.0 s of training: 500 ex/s; 3.5 s in all"));
}

}  // namespace
}  // namespace sheaf::cli
