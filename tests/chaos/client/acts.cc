#include "tests/chaos/client/acts.h"

#include <poll.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf::chaos {
namespace {

constexpr Duration kLookEvery = Milliseconds(50);
constexpr Duration kStall = Milliseconds(100);
constexpr uint64_t kReadEvery = 8;        // pushes
constexpr uint32_t kRowsOfScan = 4096;

void Pause(Duration duration) {
  poll(nullptr, 0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(duration).count()));
}

// Worth another try, under the same identity: nobody answered in time, or only that it cannot now.
bool MayRetry(const Error& error) {
  return error.code == ErrorCode::kTimeout || error.code == ErrorCode::kUnavailable ||
         error.code == ErrorCode::kOverloaded;
}

// How far a row is from what it must be. Gradients are subtracted: a value too great lacks some, one too small has some
// twice.
struct Difference {
  double lost = 0;
  double repeated = 0;
  std::string first;

  void Look(const Ledger& ledger, uint32_t row, float value, const std::string& name) {
    const float must = ledger.expected()[row];
    if (value == must) return;
    const double by = static_cast<double>(value) - static_cast<double>(must);
    (by > 0 ? lost : repeated) += std::abs(by);
    if (first.empty()) {
      first = StrCat(name, ": row ", row, " (key ", ledger.KeyOf(row), ") is ", value, " and must be ", must, " after ",
                     ledger.acknowledged(), " pushes");
    }
  }
};

class Pusher {
 public:
  Pusher(BlockingClient& client, TableId table, Ledger& ledger, const std::string& stalls)
      : client_(client), table_(table), ledger_(ledger), stalls_(stalls, std::ios::app) {
    stalls_ << std::fixed << std::setprecision(3);
  }

  Status Run(uint64_t most, SignalFd& signals) {
    last_ = clock_.Now();
    // One at least: the push that a killed client had under way may be there, and must not stay in doubt.
    for (uint64_t done = 0; done == 0 || (done != most && !signals.Take()); ++done) {
      const ChaosPush push = ledger_.NextPush();
      SHEAF_RETURN_IF_ERROR(Insist([&] { return Send(push); }));
      SHEAF_RETURN_IF_ERROR(ledger_.Acknowledge());
      NoteStall();
      if (ledger_.acknowledged() % kReadEvery == 0) SHEAF_RETURN_IF_ERROR(Insist([&] { return ReadBack(push); }));
    }
    return {};
  }

 private:
  Status Insist(const std::function<Status()>& act) {
    while (true) {
      const Status done = act();
      if (done || !MayRetry(done.error())) return done;
      std::fprintf(stderr, "again, after: %s\n", done.error().message.c_str());
    }
  }

  struct Request {
    KeyVector keys;
    std::vector<uint32_t> rows;     // in the order of the keys
    std::vector<float> gradients;
  };
  Request Sorted(const ChaosPush& push) const {
    std::vector<std::pair<HashedKey, size_t>> order;
    for (size_t i = 0; i < push.rows.size(); ++i) order.emplace_back(ledger_.KeyOf(push.rows[i]), i);
    std::ranges::sort(order);
    Request request;
    std::vector<HashedKey> keys;
    for (const auto& [key, i] : order) {
      keys.push_back(key);
      request.rows.push_back(push.rows[i]);
      request.gradients.push_back(push.gradients[i]);
    }
    request.keys = std::make_shared<const std::vector<HashedKey>>(std::move(keys));
    return request;
  }

  Status Send(const ChaosPush& push) {
    Request request = Sorted(push);
    std::vector<TableGradients> tables;
    tables.push_back({table_, std::move(request.keys), std::move(request.gradients)});
    PushOptions options;
    options.identity = ledger_.NextIdentity();
    return client_.Push(std::move(tables), std::move(options));
  }

  // Nobody else pushes to these rows, so what is read is known to the last unit, whoever answers.
  Status ReadBack(const ChaosPush& push) {
    Request request = Sorted(push);
    SHEAF_ASSIGN_OR_RETURN(const Floats values, client_.Pull(table_, request.keys));
    Difference difference;
    for (size_t i = 0; i < request.rows.size(); ++i) difference.Look(ledger_, request.rows[i], values[i], "read back");
    if (difference.first.empty()) return {};
    return Fail(ErrorCode::kDataLoss, difference.first);
  }

  void NoteStall() {
    const TimePoint now = clock_.Now();
    if (now - last_ >= kStall) {
      stalls_ << ToSeconds(last_.time_since_epoch()) << ' ' << ToSeconds(now.time_since_epoch()) << std::endl;
    }
    last_ = now;
  }

  BlockingClient& client_;
  const TableId table_;
  Ledger& ledger_;
  std::ofstream stalls_;
  const SystemClock clock_{};
  TimePoint last_{};
};

// What is not as it should be; empty if nothing.
std::string Unsettled(const pb::ClusterConfig& config, int servers, const std::string& without) {
  std::set<uint32_t> nodes;
  for (const pb::ServerInfo& server : config.server()) {
    if (server.name() == without) return StrCat(without, " is still there");
    nodes.insert(server.node());
  }
  if (config.server_size() < servers) return StrCat(config.server_size(), " servers of ", servers, " are there");
  if (config.partition().empty()) return "there are no partitions";
  for (int p = 0; p < config.partition_size(); ++p) {
    const pb::PartitionConfig& partition = config.partition(p);
    if (!nodes.contains(partition.primary())) return StrCat("partition ", p, " waits for its server to come back");
    if (partition.has_former() || partition.taking_over()) return StrCat("partition ", p, " is being taken over");
    const bool copied = std::ranges::any_of(partition.replica(), [&](const pb::Replica& replica) {
      return replica.in_sync() && nodes.contains(replica.node());
    });
    if (!copied) return StrCat("partition ", p, " has no replica in sync");
  }
  return "";
}

}  // namespace

Result<TableId> WaitForTable(BlockingClient& client, JobId job, Duration at_most) {
  const SystemClock clock;
  const TimePoint end = clock.Now() + at_most;
  while (true) {
    const auto config = client.GetConfig();
    if (!config && !MayRetry(config.error())) return Failure{config.error()};
    if (config) {
      for (const pb::TableSpec& table : config->table()) {
        if (table.job() == job.value && table.name() == "weights") return TableId(table.id());
      }
    }
    if (clock.Now() >= end) return Fail(ErrorCode::kNotFound, "job ", job, " has no table of weights");
    Pause(kLookEvery);
  }
}

Status PushUntilStopped(BlockingClient& client, TableId table, Ledger& ledger, uint64_t most,
                        const std::string& stalls, SignalFd& signals) {
  return Pusher(client, table, ledger, stalls).Run(most, signals);
}

Status Check(BlockingClient& client, TableId table, std::vector<Ledger> ledgers) {
  Difference all;
  uint64_t pushes = 0;
  for (size_t i = 0; i < ledgers.size(); ++i) {
    const Ledger& ledger = ledgers[i];
    pushes += ledger.acknowledged();
    const auto rows = ledger.AllRows();
    std::vector<HashedKey> keys;
    for (const auto& row : rows) keys.push_back(row.key);
    SHEAF_ASSIGN_OR_RETURN(const Floats values,
                           client.Pull(table, std::make_shared<const std::vector<HashedKey>>(std::move(keys))));
    for (size_t k = 0; k < rows.size(); ++k) all.Look(ledger, rows[k].row, values[k], StrCat("client ", i));
  }
  const nlohmann::ordered_json outcome = {
      {"pushes", pushes}, {"lost", all.lost}, {"repeated", all.repeated}, {"first", all.first}};
  std::printf("%s\n", outcome.dump().c_str());
  if (all.first.empty()) return {};
  return Fail(ErrorCode::kDataLoss, all.first);
}

Status PrintDigests(BlockingClient& client) {
  SHEAF_ASSIGN_OR_RETURN(const pb::ClusterConfig config, client.GetConfig());
  std::map<uint32_t, uint64_t> digests;
  uint64_t rows = 0;
  for (const pb::TableSpec& table : config.table()) {
    SHEAF_RETURN_IF_ERROR(client.ScanAll(
        TableId(table.id()), kRowsOfScan,
        [&](PartitionId partition, std::span<const HashedKey> keys, std::span<const float> values) -> Status {
          uint64_t& digest = digests[partition.value];
          rows += keys.size();
          for (const HashedKey key : keys) digest = MixPair(digest, key);
          for (const float value : values) digest = MixPair(digest, std::bit_cast<uint32_t>(value));
          return {};
        }));
  }
  nlohmann::ordered_json outcome = {{"rows", rows}, {"digests", nlohmann::ordered_json::object()}};
  for (const auto& [partition, digest] : digests) outcome["digests"][std::to_string(partition)] = digest;
  std::printf("%s\n", outcome.dump().c_str());
  return {};
}

Status Settle(BlockingClient& client, int servers, const std::string& without, Duration at_most) {
  const SystemClock clock;
  const TimePoint end = clock.Now() + at_most;
  while (true) {
    const auto config = client.GetConfig();
    if (!config && !MayRetry(config.error())) return Failure{config.error()};
    const std::string problem = config ? Unsettled(*config, servers, without) : config.error().message;
    if (problem.empty()) return {};
    if (clock.Now() >= end) return Fail(ErrorCode::kTimeout, "not within ", FormatSeconds(at_most), ": ", problem);
    Pause(kLookEvery);
  }
}

}  // namespace sheaf::chaos
