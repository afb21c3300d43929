// sheaf-server: holds partitions of the parameter tables and applies the optimizers.
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <algorithm>
#include <csignal>

#include "common/base/build_info.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/net/member_info.h"
#include "common/net/scheduler_list.h"
#include "common/runtime/exit_codes.h"
#include "common/runtime/file_limit.h"
#include "common/runtime/flags_env.h"
#include "common/runtime/logging.h"
#include "common/runtime/memory.h"
#include "common/runtime/signals.h"
#include "server/damaged_store.h"
#include "server/data_folder.h"
#include "server/memory_shares.h"
#include "server/shard_server.h"

DEFINE_string(scheduler, "tcp://127.0.0.1:7070", "address of the scheduler; of several, all of them");
DEFINE_string(listen, "127.0.0.1", "address to listen on; * for all");
DEFINE_string(advertise, "",
              "host name or address under which others reach this server; default: --listen, or the host's name");
DEFINE_uint32(port, 0, "port of the first shard, shard i listens on port + i; 0 takes any");
DEFINE_string(ipc_dir, "", "listen on unix sockets in this folder instead of TCP: for clusters on one machine");
DEFINE_string(data_dir, "",
              "folder for what outlives this process: a server that is started again with it has every acknowledged "
              "push; empty: parameters are in memory only");
DEFINE_uint64(snapshot_after_mb, 256,
              "with --data_dir: rows that have changed go to a store of snapshots, and the log is cut, when it "
              "has grown by so many MiB and by half of what rows take; 0: early and often, for tests");
DEFINE_string(memory_limit, "0",
              "with --data_dir: memory for rows, as 512MiB or 2GiB, at least 32MiB a shard; rows that were not used "
              "for long leave it when there are more, and come back from the disk; 0: all rows are in memory");
DEFINE_string(checkpoint_dir, "",
              "folder for checkpoints of the cluster: the one that the scheduler has, and all other servers");
DEFINE_bool(local_sockets, true, "let processes of this host connect over unix sockets; else over TCP, like all");
DEFINE_uint32(shards, 1, "threads that hold parameters, 1..256");
DEFINE_uint64(memory_mb, 1024,
              "memory for requests in progress or not read yet and for remembered key lists, in MiB (rows, and one "
              "request of each client, come on top)");
DEFINE_uint32(scheduler_timeout_s, 30, "give up when the scheduler was silent for so long, in seconds");

namespace {

constexpr uint32_t kMaxShards = 256;
constexpr uint64_t kMinMegabytesAShard = 16;
constexpr uint64_t kLeastLogBytes = 64 << 10;   // between rounds of snapshots
constexpr uint64_t kMostLogMegabytes = 1 << 20;

// What is wrong with the flags; empty if nothing.
std::string FlagProblem() {
  if (FLAGS_shards < 1 || FLAGS_shards > kMaxShards)
    return "--shards is " + std::to_string(FLAGS_shards) + "; it must be 1..256";
  if (FLAGS_port + uint64_t{FLAGS_shards} > 65536) {
    return "--port is " + std::to_string(FLAGS_port) + ": there are no " + std::to_string(FLAGS_shards) +
           " ports from there to 65535";
  }
  if (FLAGS_memory_mb < kMinMegabytesAShard * FLAGS_shards || FLAGS_memory_mb > (uint64_t{1} << 30)) {
    return "--memory_mb is " + std::to_string(FLAGS_memory_mb) + "; it must be at least " +
           std::to_string(kMinMegabytesAShard * FLAGS_shards) + " (16 a shard)";
  }
  if (FLAGS_snapshot_after_mb > kMostLogMegabytes) {
    return "--snapshot_after_mb is " + std::to_string(FLAGS_snapshot_after_mb) + "; it must be at most " +
           std::to_string(kMostLogMegabytes);
  }
  const auto limit = sheaf::ParseBytes(FLAGS_memory_limit);
  if (!limit) return "--memory_limit: " + limit.error().message;
  if (*limit > 0 && *limit < sheaf::kLeastMemoryLimit * FLAGS_shards) {
    return "--memory_limit is " + FLAGS_memory_limit + "; it must be 0 (none) or at least " +
           sheaf::FormatBytes(sheaf::kLeastMemoryLimit * FLAGS_shards) + " (32 MiB a shard)";
  }
  if (*limit > 0 && FLAGS_data_dir.empty()) {
    return "--memory_limit needs --data_dir: rows that leave memory are kept on the disk";
  }
  if (FLAGS_scheduler_timeout_s < 1) return "--scheduler_timeout_s must be at least 1";
  if (const auto list = sheaf::SchedulerList::Check(FLAGS_scheduler); !list) return list.error().message;
  return "";
}

// Until a signal comes. kDataLoss: what is in the data folder is damaged; `store` says which it is, if it can be read.
sheaf::Status Serve(const sheaf::ServerOptions& options, sheaf::SignalFd& signals, sheaf::MemberInfo& store) {
  const sheaf::SystemClock clock;
  sheaf::ZmqContext context(static_cast<int>((FLAGS_shards + 3) / 4));
  sheaf::ShardServer server(context, clock, options);
  const sheaf::Status bound = server.Bind();
  store.store = server.store();
  store.store_start = server.store_start();
  if (!bound) return bound;
  store.shards = server.endpoints();
  std::string addresses;
  size_t local_sockets = 0;
  for (const auto& endpoint : server.endpoints()) {
    addresses += (addresses.empty() ? "" : ",") + endpoint.address();
    local_sockets += endpoint.host() != 0;
  }
  LOG(INFO) << sheaf::BuildText() << " addresses=" << addresses << " local_sockets=" << local_sockets
            << " data_dir=" << (FLAGS_data_dir.empty() ? "none" : FLAGS_data_dir)
            << " scheduler=" << FLAGS_scheduler;
  return server.Run(signals.fd(), [&] { (void)signals.Take(); });
}

// The store is damaged. If others have all that was in it, it is put aside, and the server begins with an empty one;
// else the error stands, with why.
sheaf::Status ServeAnew(const sheaf::ServerOptions& options, sheaf::SignalFd& signals, sheaf::MemberInfo store,
                        const sheaf::Error& damage) {
  if (store.store == 0) return sheaf::Failure{damage};
  LOG(ERROR) << damage.message;
  LOG(WARNING) << "asks the scheduler whether others have what was in the store";
  const sheaf::SystemClock clock;
  sheaf::ZmqContext context(1);
  sheaf::MemberInfo self = sheaf::ThisProcess(sheaf::pb::SERVER, sheaf::PeerId(sheaf::EntropySeed()));
  self.shards = std::move(store.shards);
  self.store = store.store;
  self.store_start = store.store_start;
  self.damaged = damage.message;
  const sheaf::Status forgotten = sheaf::AskToForget(
      context, clock, self, {.address = options.scheduler, .deadline = options.scheduler_timeout}, signals.fd());
  if (!forgotten && forgotten.error().code == sheaf::ErrorCode::kCancelled) return {};
  if (!forgotten) return sheaf::Fail(damage.code, damage.message, ". It is needed: ", forgotten.error().message);
  auto aside = sheaf::DataFolder::SetAside(options.data_dir);
  if (!aside) return sheaf::Failure{aside.error()};
  LOG(WARNING) << "others have all of it: the damaged store is put aside in " << *aside
               << ", and this server begins anew; remove that folder when you have looked at the disk";
  sheaf::MemberInfo fresh;
  return Serve(options, signals, fresh);
}

}  // namespace

int main(int argc, char** argv) {
  sheaf::RaiseFileLimit();
  std::signal(SIGXFSZ, SIG_IGN);  // a file at its limit is an error like a full disk, not the end
  sheaf::KeepFreedMemory();
  const auto flags = sheaf::ParseFlags(argc, argv,
                                       {"sheaf-server", "[--scheduler=ADDRESS] [--listen=HOST] [--port=PORT] [flags]",
                                        "Holds partitions of the parameter tables and applies the optimizers."});
  if (flags.exit_code) return *flags.exit_code;
  auto signals = sheaf::SignalFd::Create();
  sheaf::SetUpLogging(argv[0], "server");
  if (!signals) {
    LOG(ERROR) << signals.error().message;
    return sheaf::kExitFailed;
  }
  if (const std::string problem = FlagProblem(); !problem.empty()) {
    LOG(ERROR) << problem;
    return sheaf::kExitUsage;
  }
  const size_t shard_bytes = (static_cast<size_t>(FLAGS_memory_mb) << 20) / FLAGS_shards;
  sheaf::ServerOptions options;
  options.scheduler = FLAGS_scheduler;
  options.listen = FLAGS_listen;
  options.advertise = FLAGS_advertise;
  options.port = FLAGS_port;
  options.ipc_dir = FLAGS_ipc_dir;
  options.data_dir = FLAGS_data_dir;
  options.checkpoint_dir = FLAGS_checkpoint_dir;
  options.snapshots.min_log_bytes = std::max(FLAGS_snapshot_after_mb << 20, kLeastLogBytes);
  options.memory_limit_bytes = *sheaf::ParseBytes(FLAGS_memory_limit);
  options.local_sockets = FLAGS_local_sockets;
  options.shards = FLAGS_shards;
  // Key lists once; requests three times, and as much again unread and unsent.
  options.shard.key_list_budget_bytes = shard_bytes / 6;
  options.shard.request_budget_bytes = shard_bytes / 6;
  options.scheduler_timeout = std::chrono::seconds(FLAGS_scheduler_timeout_s);

  sheaf::MemberInfo store;
  sheaf::Status outcome = Serve(options, **signals, store);
  if (!outcome && outcome.error().code == sheaf::ErrorCode::kDataLoss && !options.data_dir.empty()) {
    outcome = ServeAnew(options, **signals, std::move(store), outcome.error());
  }
  if (!outcome) {
    LOG(ERROR) << outcome.error().message;
    return sheaf::ExitCodeOf(outcome.error().code);
  }
  LOG(INFO) << "left";
  return sheaf::kExitOk;
}
