// sheaf-bench: what Sheaf does beside its limits. scripts/bench.sh builds and runs it.
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "bench/checkpoints/checkpoint_suite.h"
#include "bench/checkpoints/cluster_suite.h"
#include "bench/durability/durability_suite.h"
#include "bench/eviction/eviction_suite.h"
#include "bench/failover/failover_suite.h"
#include "bench/failover/moves_suite.h"
#include "bench/kv/core_suite.h"
#include "bench/kv/kv_suite.h"
#include "bench/kv/overload_suite.h"
#include "bench/snapshots/snapshot_suite.h"
#include "bench/train/train_suite.h"
#include "common/runtime/exit_codes.h"

DEFINE_string(json, "", "write the rows as JSON to this file");
DEFINE_string(only, "", "run only cases whose \"NAME PARAMS\" contains this");
DEFINE_double(seconds, 0.25, "of one sample; each case takes twelve or more");
DEFINE_int32(rounds, 5, "that count, after one that warms up");
DEFINE_bool(ours_only, false, "leave the limits out: for a profiler");
DEFINE_bool(tcp, false, "kv: our client goes over TCP, not over the unix socket that processes of one host use");
DEFINE_int32(kills, 30, "failover: servers killed");
DEFINE_int32(stops, 10, "failover: servers told to stop");
DEFINE_int32(drains, 10, "moves: times that a server is drained and kept");
DEFINE_int32(pauses, 100, "checkpoints: made one after the other, to see how long workers stand still");
DEFINE_uint64(rows, 10'000'000, "of the large tables");

namespace sheaf::bench {
namespace {

constexpr int kExitUnderBar = 1;

int Run(const std::string& name) {
  Suite suite(name, FLAGS_only, FLAGS_rounds, FLAGS_ours_only);
  Status status;
  if (name == "kv") {
    status = RunKv({.rows = FLAGS_rows, .seconds = FLAGS_seconds, .tcp = FLAGS_tcp}, suite);
  } else if (name == "cores") {
    status = RunCores(suite);
  } else if (name == "overload") {
    status = RunOverload({}, suite);
  } else if (name == "train") {
    status = RunTrain({.seconds = FLAGS_seconds}, suite);
  } else if (name == "scale") {
    status = RunScale(suite);
  } else if (name == "failover") {
    status = RunFailover({.kills = FLAGS_kills, .stops = FLAGS_stops}, suite);
  } else if (name == "moves") {
    status = RunMoves({.drains = FLAGS_drains}, suite);
  } else if (name == "durability") {
    status = RunDurability({.seconds = FLAGS_seconds}, suite);
  } else if (name == "eviction") {
    status = RunEviction({.rows = std::min<uint64_t>(FLAGS_rows, 500'000), .seconds = FLAGS_seconds}, suite);
  } else if (name == "snapshots") {
    status = RunSnapshots({.rows = FLAGS_rows});
  } else if (name == "checkpoint") {
    status = RunCheckpoints({.rows = FLAGS_rows, .rounds = FLAGS_rounds});
  } else if (name == "checkpoints") {
    status = RunClusterCheckpoints({.rows_a_server = std::min<uint64_t>(FLAGS_rows, 7'500'000),
                                    .pauses = FLAGS_pauses,
                                    .rounds = FLAGS_rounds},
                                   suite);
  } else {
    std::fprintf(stderr, "sheaf-bench: no suite '%s'; there are kv, cores, overload, train, scale, failover, moves, "
                         "durability, eviction, snapshots, checkpoint and checkpoints\n",
                 name.c_str());
    return kExitUsage;
  }
  if (!FLAGS_json.empty()) {
    std::ofstream file(FLAGS_json);
    file << AsJson(suite.rows());
    if (!file.flush()) {
      std::fprintf(stderr, "sheaf-bench: cannot write %s\n", FLAGS_json.c_str());
      return kExitFailed;
    }
  }
  if (!status) {
    std::fprintf(stderr, "sheaf-bench: %s\n", status.error().message.c_str());
    return kExitFailed;
  }
  size_t under = 0;
  for (const Row& row : suite.rows()) under += !row.ok();
  std::printf("%zu cases, %zu under their bar\n", suite.rows().size(), under);
  return suite.ok() ? kExitOk : kExitUnderBar;
}

}  // namespace
}  // namespace sheaf::bench

int main(int argc, char** argv) {
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  const std::string usage =
      "sheaf-bench kv|cores|overload|train|scale|failover|moves|durability|eviction|snapshots|checkpoint|checkpoints "
      "[--json FILE] [--only TEXT]";
  gflags::SetUsageMessage(usage);
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s\n", usage.c_str());
    return sheaf::kExitUsage;
  }
  return sheaf::bench::Run(argv[1]);
}
