// sheaf bench: how fast a running cluster answers from here.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/export_model.h"
#include "cli/terminal.h"
#include "common/base/strings.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {
namespace {

struct Measurement {
  std::string what;
  size_t rows = 0;              // of one call
  std::vector<double> seconds;  // of each call
  double total_seconds = 0;
};

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<size_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

// Calls again and again for so long.
Result<Measurement> Measure(const std::string& what, size_t rows, Duration duration,
                            const std::function<Status()>& call) {
  SystemClock clock;
  Measurement measurement{.what = what, .rows = rows, .seconds = {}};
  SHEAF_RETURN_IF_ERROR(call());  // connects, and makes key lists known
  const TimePoint began = clock.Now();
  for (TimePoint now = began; now - began < duration;) {
    SHEAF_RETURN_IF_ERROR(call());
    const TimePoint after = clock.Now();
    measurement.seconds.push_back(ToSeconds(after - now));
    now = after;
  }
  measurement.total_seconds = ToSeconds(clock.Now() - began);
  return measurement;
}

std::string Micros(double seconds) { return FormatFixed(seconds * 1e6, 0); }

std::string AsTable(const std::vector<Measurement>& all) {
  std::vector<std::vector<std::string>> rows = {{"WHAT", "ROWS A CALL", "CALLS/s", "rows/s", "p50 us", "p99 us"}};
  for (const Measurement& each : all) {
    const double rate = static_cast<double>(each.seconds.size()) / each.total_seconds;
    rows.push_back({each.what, FormatCount(each.rows), FormatCount(static_cast<uint64_t>(rate)),
                    FormatCount(static_cast<uint64_t>(rate * static_cast<double>(each.rows))),
                    Micros(Quantile(each.seconds, 0.5)), Micros(Quantile(each.seconds, 0.99))});
  }
  return AlignedTable(rows);
}

std::string AsJson(const std::vector<Measurement>& all) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Measurement& each : all) {
    const double rate = static_cast<double>(each.seconds.size()) / each.total_seconds;
    rows.push_back({{"what", each.what},
                    {"rows_per_call", each.rows},
                    {"calls_per_second", rate},
                    {"rows_per_second", rate * static_cast<double>(each.rows)},
                    {"p50_seconds", Quantile(each.seconds, 0.5)},
                    {"p99_seconds", Quantile(each.seconds, 0.99)}});
  }
  return rows.dump(2) + "\n";
}

// The weight table of a job: the one asked for, else the latest that has its tables.
Result<TableId> FindTable(const pb::ClusterConfig& config, int64_t job) {
  const pb::TableSpec* found = nullptr;
  for (const pb::TableSpec& table : config.table()) {
    const bool wanted = job == 0 || table.job() == static_cast<uint64_t>(job);
    if (wanted && table.dense_elements() == 0 && table.update() == pb::TableSpec::OPTIMIZER &&
        (found == nullptr || table.job() > found->job()))
      found = &table;
  }
  if (found == nullptr && job != 0)
    return Fail(ErrorCode::kNotFound, "job ", job, " has no table to read here (sheaf jobs lists the jobs)");
  if (found == nullptr) return Fail(ErrorCode::kNotFound, "no table to read: run a job first");
  return TableId(found->id());
}

// Keys of rows that are there: a pull makes none.
Result<KeyVector> SomeKeys(BlockingClient& client, TableId table, size_t most) {
  std::vector<HashedKey> keys;
  const Error enough{ErrorCode::kCancelled, "enough"};
  const Status scanned =
      client.ScanAll(table, static_cast<uint32_t>(most),
                     [&](PartitionId, std::span<const HashedKey> more, std::span<const float>) -> Status {
                       keys.insert(keys.end(), more.begin(), more.end());
                       return keys.size() < most ? Status() : Status(Failure{enough});
                     });
  if (!scanned && keys.size() < most) return Failure{scanned.error()};
  if (keys.empty()) return Fail(ErrorCode::kNotFound, "table ", table, " has no rows yet");
  keys.resize(std::min(keys.size(), most));
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

Result<std::vector<Measurement>> RunBench(const Args& args, SignalFd& signals) {
  ZmqContext context;
  SHEAF_ASSIGN_OR_RETURN(const auto client,
                         ConnectTo(context, SchedulerAddress(args), Timeout(args), WatchSignals(signals)));
  const auto duration = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(args.Number("seconds")));
  std::vector<Measurement> all;
  SHEAF_ASSIGN_OR_RETURN(Measurement pings, Measure("ping scheduler", 0, duration, [&]() -> Status {
                           const auto config = client->GetConfig();
                           return config ? Status() : Status(Failure{config.error()});
                         }));
  all.push_back(std::move(pings));

  SHEAF_ASSIGN_OR_RETURN(const TableId table, FindTable(client->config(), args.Integer("job")));
  SHEAF_ASSIGN_OR_RETURN(const uint32_t dim, TableDim(client->config(), table));
  SHEAF_ASSIGN_OR_RETURN(const auto keys, SomeKeys(*client, table, static_cast<size_t>(args.Integer("rows"))));
  SHEAF_ASSIGN_OR_RETURN(Measurement pulls, Measure("pull", keys->size(), duration, [&]() -> Status {
                           const auto rows = client->Pull(table, keys);
                           return rows ? Status() : Status(Failure{rows.error()});
                         }));
  all.push_back(std::move(pulls));
  if (!args.Flag("push")) return all;
  SHEAF_ASSIGN_OR_RETURN(Measurement pushes, Measure("push", keys->size(), duration, [&] {
                           std::vector<TableGradients> tables;
                           tables.push_back({table, keys, std::vector<float>(keys->size() * dim)});
                           return client->Push(std::move(tables));
                         }));
  all.push_back(std::move(pushes));
  return all;
}

int Bench(const Args& args) {
  auto signals = SignalFd::Create();
  if (!signals) return Complain(signals.error());
  const auto all = RunBench(args, **signals);
  if (!all) return Complain(all.error());
  std::fputs(args.Text("output") == "json" ? AsJson(*all).c_str() : AsTable(*all).c_str(), stdout);
  return kExitOk;
}

}  // namespace

Command BenchCommand() {
  CommandLine line{.name = "sheaf bench", .summary = "how fast a running cluster answers pings, pulls and pushes"};
  line.options = {{.name = "seconds",
                   .kind = Option::kNumber,
                   .value_name = "X",
                   .fallback = "2",
                   .help = "of each measurement",
                   .least = 0.1,
                   .most = 3600},
                  {.name = "rows",
                   .kind = Option::kInteger,
                   .value_name = "N",
                   .fallback = "4096",
                   .help = "of a pull or push",
                   .least = 1,
                   .most = 1 << 20},
                  {.name = "job",
                   .kind = Option::kInteger,
                   .value_name = "JOB",
                   .fallback = "0",
                   .help = "whose table is read; 0: the latest",
                   .least = 0,
                   .most = 1e15},
                  {.name = "push",
                   .kind = Option::kFlag,
                   .help = "pushes gradients of zero too; with momentum, Adam or l2 that changes the model"},
                  SchedulerOption(),
                  TimeoutOption(),
                  OutputOption()};
  line.notes =
      "One call at a time: latency, and what one client gets. Rows are read from the table of a job that was run "
      "there.\n";
  return {std::move(line), Bench};
}

}  // namespace sheaf::cli
