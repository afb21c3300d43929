// sheaf-scheduler: membership, placement, data leases, job life cycle.
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <csignal>

#include "common/base/build_info.h"
#include "common/base/partition.h"
#include "common/base/random.h"
#include "common/net/advertised_address.h"
#include "common/runtime/exit_codes.h"
#include "common/runtime/file_limit.h"
#include "common/runtime/flags_env.h"
#include "common/runtime/logging.h"
#include "common/runtime/signals.h"
#include "scheduler/scheduler_shell.h"

DEFINE_string(cluster, "sheaf", "name of the cluster, shown in status");
DEFINE_string(listen, "127.0.0.1", "address to listen on; * for all");
DEFINE_uint32(port, 7070, "port to listen on; 0 takes any");
DEFINE_string(address_file, "", "write the address here once it is bound");
DEFINE_uint32(partitions, sheaf::kDefaultPartitions, "partitions of the parameter space, 1..4096");
DEFINE_string(data_dir, "",
              "folder for what outlives this process: a scheduler that is started again with it goes on with the "
              "cluster's jobs; empty: in memory only, and its end is the end of the jobs");
DEFINE_string(meta, "",
              "instead of --data_dir: keep it in etcd, at etcd://HOST:PORT,HOST:PORT/PREFIX. Several schedulers with "
              "the same place stand in for each other: one leads, the others stand by");
DEFINE_uint32(leader_lease_s, 5, "with --meta: a leader that etcd has not heard for so long is replaced, in seconds");
DEFINE_string(advertise, "",
              "with --meta: host name or address under which others reach this scheduler; default: --listen, or the "
              "host's name");
DEFINE_string(checkpoint_dir, "",
              "folder for checkpoints of the cluster, which all servers have to reach, too (their --checkpoint_dir)");
DEFINE_uint32(back_within_s, 600,
              "with --data_dir or --meta: servers and workers wait so long for a scheduler that is silent, in seconds");
DEFINE_uint32(min_servers, 1, "jobs wait until so many servers are in");
DEFINE_uint32(report_every_ms, 200, "how often servers and workers report, in milliseconds");
DEFINE_uint32(worker_dead_after_ms, 3000, "a worker silent for so long is dead, in milliseconds");
DEFINE_uint32(server_back_within_s, 600,
              "a server with --data_dir that has ended is waited for so long, in seconds; then its jobs fail");
DEFINE_uint32(server_dead_after_ms, 10000, "a server silent for so long is dead, in milliseconds");
DEFINE_uint32(take_over_after_ms, 1000, "the same of a server that others have copies of all it has");
DEFINE_uint32(replicas, 2, "copies of each partition, the first one too, where there are as many servers; 1..8");

namespace {

constexpr uint32_t kMostReplicas = 8;

int Usage(const std::string& text) {
  LOG(ERROR) << text;
  return sheaf::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  sheaf::RaiseFileLimit();
  std::signal(SIGXFSZ, SIG_IGN);  // a file at its limit is an error like a full disk, not the end
  const auto flags = sheaf::ParseFlags(
      argc, argv, {"sheaf-scheduler", "[--listen=HOST] [--port=PORT] [flags]", "The cluster's brain."});
  if (flags.exit_code) return *flags.exit_code;
  auto signals = sheaf::SignalFd::Create();
  sheaf::SetUpLogging(argv[0], "scheduler");
  if (!signals) {
    LOG(ERROR) << signals.error().message;
    return sheaf::kExitFailed;
  }
  if (FLAGS_partitions < 1 || FLAGS_partitions > sheaf::kMaxPartitions) {
    return Usage("--partitions is " + std::to_string(FLAGS_partitions) + "; it must be 1..4096");
  }
  if (FLAGS_port > 65535) return Usage("--port is " + std::to_string(FLAGS_port) + "; it must be 0..65535");
  if (FLAGS_report_every_ms < 1 || FLAGS_worker_dead_after_ms < 2 * FLAGS_report_every_ms ||
      FLAGS_server_dead_after_ms < 2 * FLAGS_report_every_ms || FLAGS_take_over_after_ms < 2 * FLAGS_report_every_ms) {
    return Usage("--worker_dead_after_ms, --server_dead_after_ms and --take_over_after_ms must be at least twice "
                 "--report_every_ms");
  }
  if (FLAGS_replicas < 1 || FLAGS_replicas > kMostReplicas) {
    return Usage("--replicas is " + std::to_string(FLAGS_replicas) + "; it must be 1.." +
                 std::to_string(kMostReplicas));
  }
  if (!FLAGS_meta.empty() && !FLAGS_data_dir.empty()) {
    return Usage("what the scheduler knows lies in --data_dir or in --meta: give one of them");
  }
  if (FLAGS_leader_lease_s < 2 || FLAGS_leader_lease_s > 60) {
    return Usage("--leader_lease_s is " + std::to_string(FLAGS_leader_lease_s) + "; it must be 2..60");
  }
  sheaf::SchedulerShell::Places places;
  places.data = FLAGS_data_dir;
  places.checkpoints = FLAGS_checkpoint_dir;
  places.lease = std::chrono::seconds(FLAGS_leader_lease_s);
  if (!FLAGS_meta.empty()) {
    auto meta = sheaf::ParseEtcdAddress(FLAGS_meta);
    if (!meta) return Usage("--meta: " + meta.error().message);
    places.meta = std::move(*meta);
  }
  sheaf::SchedulerOptions options;
  options.cluster = FLAGS_cluster;
  options.incarnation = sheaf::EntropySeed();
  options.partition_count = FLAGS_partitions;
  options.report_every = sheaf::Milliseconds(FLAGS_report_every_ms);
  options.worker_dead_after = sheaf::Milliseconds(FLAGS_worker_dead_after_ms);
  options.server_dead_after = sheaf::Milliseconds(FLAGS_server_dead_after_ms);
  options.take_over_after = sheaf::Milliseconds(FLAGS_take_over_after_ms);
  options.replicas = FLAGS_replicas;
  options.server_back_within = std::chrono::seconds(FLAGS_server_back_within_s);
  options.job.min_servers = FLAGS_min_servers;
  const bool comes_back = !FLAGS_data_dir.empty() || !FLAGS_meta.empty();
  if (comes_back) options.back_within = std::chrono::seconds(FLAGS_back_within_s);

  const sheaf::SystemClock clock;
  sheaf::ZmqContext context;
  auto scheduler = sheaf::SchedulerShell::Open(context, clock, std::move(options), std::move(places));
  if (!scheduler) {
    LOG(ERROR) << scheduler.error().message;
    return sheaf::ExitCodeOf(scheduler.error().code);
  }
  const auto bound = (*scheduler)->Bind("tcp://" + FLAGS_listen + ":" + std::to_string(FLAGS_port));
  if (!bound) {
    LOG(ERROR) << bound.error().message;
    return sheaf::ExitCodeOf(bound.error().code);
  }
  LOG(INFO) << sheaf::BuildText() << " cluster=" << FLAGS_cluster << " address=" << *bound
            << " partitions=" << FLAGS_partitions << " data_dir=" << (FLAGS_data_dir.empty() ? "none" : FLAGS_data_dir)
            << " meta=" << (FLAGS_meta.empty() ? "none" : FLAGS_meta);
  if (!FLAGS_address_file.empty()) {
    if (const auto written = sheaf::WriteAddressFile(FLAGS_address_file, *bound); !written) {
      LOG(ERROR) << written.error().message;
      return sheaf::kExitFailed;
    }
  }
  (*scheduler)->Advertise(sheaf::TcpAddress(sheaf::AdvertisedHost(FLAGS_listen, FLAGS_advertise),
                                            bound->substr(bound->rfind(':') + 1)));
  if (const auto ended = (*scheduler)->Run((*signals)->fd(), [&] { (void)(*signals)->Take(); }); !ended) {
    LOG(ERROR) << ended.error().message;
    return sheaf::ExitCodeOf(ended.error().code);
  }
  LOG(INFO) << "stopped";
  return sheaf::kExitOk;
}
