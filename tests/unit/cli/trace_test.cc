// Traces on their way from spans to a file and a table.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/trace_collector.h"
#include "cli/trace_shares.h"

namespace sheaf::cli {
namespace {

TimePoint At(int64_t ms) { return TimePoint(std::chrono::seconds(100) + Milliseconds(ms)); }

TEST(TraceShares, TellWhatPullsHideBehindCompute) {
  const WorkerShares shares = SharesOf({
      {pb::COMPUTE, 0, At(0), Milliseconds(40), 0, 0},
      {pb::PULL, 0, At(30), Milliseconds(30), 0, 1},  // 10 of 30 ms hidden
      {pb::WAIT, 0, At(40), Milliseconds(20), pb::FOR_PULL, 0},
      {pb::COMPUTE, 0, At(60), Milliseconds(40), 0, 1},
      {pb::PULL, 0, At(50), Milliseconds(30), 0, 2},   // 20 of 30 ms hidden
      {pb::PUSH, 0, At(100), Milliseconds(50), 0, 1},  // after the last batch: nothing there to hide behind
      {pb::WAIT, 0, At(100), Milliseconds(50), pb::FOR_LEASE, 0},
  });
  EXPECT_DOUBLE_EQ(shares.total, 0.1);
  EXPECT_DOUBLE_EQ(shares.compute, 0.08);
  EXPECT_DOUBLE_EQ(shares.idle(), 0.02);
  EXPECT_DOUBLE_EQ(shares.pulls, 0.06);
  EXPECT_DOUBLE_EQ(shares.pulls_hidden, 0.03);
  EXPECT_DOUBLE_EQ(shares.pushes, 0);
}

TEST(TraceShares, OfAWorkerThatComputedNothingAreZero) {
  EXPECT_EQ(SharesOf({{pb::WAIT, 0, At(0), Milliseconds(9), pb::FOR_LEASE, 0}}).total, 0);
}

void AddPart(pb::TraceReply& reply, const std::string& process, pb::Role role, uint64_t boot, int64_t offset_ns,
             const std::vector<Span>& spans) {
  auto& part = *reply.add_part();
  part.set_process(process);
  part.set_role(role);
  AppendSpans(spans, *part.mutable_spans());
  part.mutable_spans()->set_boot(boot);
  part.mutable_spans()->set_clock_offset_ns(offset_ns);
  part.mutable_spans()->set_clock_error_ns(1000);
}

nlohmann::json Written(const TraceCollector& trace) {
  const auto folder = std::filesystem::temp_directory_path() / ("sheaf-trace-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const auto written = trace.Write((folder / "trace.json").string());
  EXPECT_TRUE(written) << written.error().message;
  std::ifstream file(folder / "trace.json");
  nlohmann::json json = nlohmann::json::parse(file);
  std::filesystem::remove_all(folder);
  return json;
}

TEST(TraceCollector, WritesEveryFormOfSpanOnTheSchedulersClock) {
  pb::TraceReply reply;
  reply.set_last(2);
  reply.set_boot(7);
  AddPart(reply, "scheduler", pb::SCHEDULER, 7, 0, {{pb::LEASE, 0, At(0), Duration::zero(), 3, 4}});
  AddPart(reply, "worker-0", pb::WORKER, 7, 999'999,  // the same host: one clock, whatever was measured
          {{pb::COMPUTE, 0, At(10), Milliseconds(2), 3, 0}, {pb::PULL, 0, At(4), Milliseconds(5), 3, 1}});
  AddPart(reply, "server-0", pb::SERVER, 8, -20'000'000, {{pb::SERVE_PULL, 1, At(25), Milliseconds(1), 0, 9}});
  TraceCollector trace;
  trace.Take(reply);
  const nlohmann::json json = Written(trace);
  std::map<std::string, nlohmann::json> by_form;
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("ph") != "M") by_form[event.at("ph").get<std::string>() + event.at("name").get<std::string>()] = event;
  }
  ASSERT_EQ(by_form.size(), 5u);
  EXPECT_EQ(by_form.at("ilease").at("ts"), 0);
  EXPECT_EQ(by_form.at("Xcompute").at("ts"), 10'000);
  EXPECT_EQ(by_form.at("Xcompute").at("dur"), 2000);
  EXPECT_EQ(by_form.at("bpull").at("ts"), 4000);
  EXPECT_EQ(by_form.at("epull").at("ts"), 9000);
  EXPECT_EQ(by_form.at("bpull").at("id"), by_form.at("epull").at("id"));
  EXPECT_EQ(by_form.at("Xpull").at("ts"), 5000);
}

TEST(TraceCollector, IsBoundedAndSaysWhatIsMissing) {
  pb::TraceReply reply;
  for (int i = 0; i < 5; ++i)
    AddPart(reply, "worker-0", pb::WORKER, 7, 0, {{pb::COMPUTE, 0, At(i), Milliseconds(1), 0, 0}});
  TraceCollector trace(3);
  trace.Take(reply);
  EXPECT_EQ(Written(trace).at("otherData").at("dropped_spans"), 2);
  EXPECT_THAT(trace.Summary(), ::testing::HasSubstr("2 spans"));
}

}  // namespace
}  // namespace sheaf::cli
