// sheaf run: a job from its file to its report, on a cluster of its own (or, with --scheduler, on one that is there).
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>

#include "cli/commands.h"
#include "cli/export_model.h"
#include "cli/follow.h"
#include "cli/job_file.h"
#include "cli/local_cluster.h"
#include "cli/report.h"
#include "cli/trace_collector.h"
#include "cli/watch.h"
#include "common/base/strings.h"
#include "common/checkpoint/catalog.h"
#include "common/checkpoint/disk_space.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {
namespace {

constexpr Duration kSchedulerTimeout = std::chrono::seconds(30);
constexpr Duration kCancelTimeout = std::chrono::seconds(2);

// One `sheaf run`. The order of the members is the order of construction; the cluster ends before the context does.
class Run {
 public:
  Run(const Args& args, JobFile job, SignalFd& signals) : args_(args), job_(std::move(job)), signals_(signals) {}

  int Execute() {
    std::map<std::filesystem::path, std::string> outputs;
    for (const std::string option : {"report", "model", "trace"}) {
      if (!args_.Given(option)) continue;
      std::error_code ignored;
      const auto path = std::filesystem::weakly_canonical(std::filesystem::absolute(args_.Text(option)), ignored);
      const auto [other, is_new] = outputs.emplace(path, option);
      if (!is_new && (!std::filesystem::exists(path, ignored) || std::filesystem::is_regular_file(path, ignored))) {
        return Complain(kExitUsage, StrCat("sheaf run: --", other->second, " and --", option, " are the same file ",
                                           args_.Text(option), ": one would write over the other"));
      }
      if (const Status writable = CheckOutputPath(args_.Text(option)); !writable) return Complain(writable.error());
    }
    Status done = TryExecute();
    if (const Status written = WriteTrace(done.has_value()); done && !written) done = written;
    if (!done) return GiveUp(done.error());
    return last_.phase() == pb::FINISHED ? kExitOk : ComplainOfOutcome();
  }

 private:
  // Everything that may end the run from outside.
  Status CheckAll() {
    SHEAF_RETURN_IF_ERROR(CheckInterrupted(signals_));
    return cluster_ && !stopping_ ? cluster_->Check() : Status();
  }
  std::vector<int> WatchedFds() {
    std::vector<int> fds = cluster_ ? cluster_->fds() : std::vector<int>();
    fds.push_back(signals_.fd());
    return fds;
  }

  Status TryExecute() {
    std::string address = args_.Text("scheduler");
    if (address.empty()) {
      SHEAF_RETURN_IF_ERROR(StartCluster());
      address = cluster_->scheduler_address();
    }
    const Watch watch{[this] { return WatchedFds(); }, [this] { return CheckAll(); }};
    SHEAF_ASSIGN_OR_RETURN(client_, ConnectTo(context_, address, kSchedulerTimeout, watch));
    if (args_.Given("trace")) SHEAF_RETURN_IF_ERROR(trace_.Poll(*client_));  // on before there is anything to see
    if (args_.Given("restore")) {
      SHEAF_ASSIGN_OR_RETURN(job_id_, client_->RestoreJob(args_.Text("restore")));
    } else {
      SHEAF_ASSIGN_OR_RETURN(job_id_, client_->SubmitJob(job_.spec));
    }
    FollowOptions follow;
    follow.quiet = args_.Flag("quiet");
    if (args_.Given("trace")) {
      follow.each_poll = [this] { return trace_.Poll(*client_); };
    }
    if (args_.Given("timeout")) follow.time_limit = Timeout(args_);
    if (cluster_) {
      follow.news = [this] { return cluster_->TakeNews(); };
    }
    SHEAF_ASSIGN_OR_RETURN(last_, Follow(*client_, job_id_, watch, follow));
    job_over_ = true;
    if (args_.Given("trace")) SHEAF_RETURN_IF_ERROR(trace_.Finish(*client_, watch));
    if (last_.phase() == pb::FINISHED && args_.Given("model")) SHEAF_RETURN_IF_ERROR(Export());
    return Finish();
  }

  Status StartCluster() {
    LocalClusterOptions options;
    options.servers = static_cast<uint32_t>(args_.Integer("servers"));
    options.workers = static_cast<uint32_t>(args_.Integer("workers"));
    options.replicas = static_cast<uint32_t>(args_.Integer("replicas"));
    options.data_dir = DataFolder(args_, args_.operands()[0]);
    options.store_dir = args_.Text("store_dir");
    options.log_dir = args_.Text("log_dir");
    options.checkpoint_dir = CheckpointFolder(args_);
    options.cache_mb = static_cast<uint32_t>(args_.Integer("cache_mb"));
    options.restart_workers = !args_.Flag("no_restart");
    std::error_code error;
    if (!std::filesystem::is_directory(options.data_dir, error)) {
      return Fail(ErrorCode::kNotFound, "the data folder ", options.data_dir,
                  std::filesystem::exists(options.data_dir, error) ? " is a file" : " does not exist",
                  " (--data or SHEAF_DATA)");
    }
    if (args_.Given("restore")) {
      SHEAF_ASSIGN_OR_RETURN(options.partitions, PartitionsOfCheckpoint(options.checkpoint_dir));
      options.await_servers = true;  // rows stay on the servers that they are restored to
      SHEAF_ASSIGN_OR_RETURN(cluster_,
                             LocalCluster::Start(std::move(options), [this] { return CheckInterrupted(signals_); }));
      return {};
    }
    // So that a run is a function of the job and of --workers, whichever worker is up first.
    if (!job_.spec.train().has_workers()) job_.spec.mutable_train()->set_workers(options.workers);
    if (job_.spec.train().workers() > options.workers) {
      return Fail(ErrorCode::kInvalidArgument, "train.workers is ", job_.spec.train().workers(), " (",
                  job_.OriginOf("train.workers"), "), but only ", options.workers,
                  " workers would be started: raise --workers");
    }
    SHEAF_ASSIGN_OR_RETURN(cluster_,
                           LocalCluster::Start(std::move(options), [this] { return CheckInterrupted(signals_); }));
    return {};
  }

  // The job goes on as it was: the file has to be of that job, but what it says does not count any more.
  Result<uint32_t> PartitionsOfCheckpoint(const std::string& folder) {
    if (folder.empty()) return Fail(ErrorCode::kInvalidArgument, "--restore needs --checkpoint_dir");
    SHEAF_ASSIGN_OR_RETURN(const auto space, OpenDiskSpace(folder, IfAbsent::kFail));
    SHEAF_ASSIGN_OR_RETURN(const std::string name, ResolveCheckpoint(*space, args_.Text("restore")));
    SHEAF_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(*space, name));
    const std::string& job = manifest.content.submission().spec().name();
    if (job == job_.spec.name()) return manifest.content.partition_count();
    return Fail(ErrorCode::kInvalidArgument, "the checkpoint ", name, " is of the job ", job, ", not of ",
                job_.spec.name());
  }

  // Also of a run that was interrupted or failed: then it matters most. Whole or not at all.
  Status WriteTrace(bool finished) {
    if (!args_.Given("trace") || (!finished && trace_.empty())) return {};
    SHEAF_RETURN_IF_ERROR(trace_.Write(args_.Text("trace")));
    std::fputs(trace_.Summary().c_str(), stderr);
    return {};
  }

  Status Export() {
    const auto exported = ExportModel(*client_, last_.brief(), args_.Text("model"));
    if (!exported) return Wrap(exported.error(), "the model was not exported");
    model_line_ = StrCat("  model ", args_.Text("model"), ": ", FormatCount(exported->rows), " rows, ",
                         FormatBytes(exported->bytes), "\n");
    return {};
  }

  Status Finish() {
    RunFacts facts;
    facts.wall_seconds = ToSeconds(clock_.Now() - began_);
    if (cluster_) {
      facts.servers = static_cast<uint32_t>(args_.Integer("servers"));
      facts.workers = static_cast<uint32_t>(args_.Integer("workers"));
      facts.workers_restarted = cluster_->worker_restarts();
      facts.servers_restarted = cluster_->server_restarts();
      facts.schedulers_restarted = cluster_->scheduler_restarts();
    } else if (const auto status = client_->GetStatus(JobId(0))) {
      for (const pb::NodeStatus& node : status->node()) {
        facts.servers += node.role() == pb::SERVER && node.state() == "alive";
        facts.workers += node.role() == pb::WORKER && node.state() == "alive";
      }
    }
    if (!model_line_.empty()) facts.model_path = args_.Text("model");
    const bool finished = last_.phase() == pb::FINISHED;
    if (args_.Text("output") == "json")
      std::fputs(ReportJson(last_, facts).c_str(), stdout);
    else if (finished)
      std::fputs((ReportTable(last_, facts) + model_line_).c_str(), stdout);
    if (args_.Given("report")) SHEAF_RETURN_IF_ERROR(WriteReport(args_.Text("report"), last_, facts));
    return {};
  }

  int ComplainOfOutcome() {
    const int exit_code = Complain(kExitFailed, StrCat("job ", last_.job(), " (", last_.name(), ") ",
                                                       PhaseName(last_.phase()), ": ", last_.detail()));
    MentionLogs();
    return exit_code;
  }

  // Ctrl-C, time-out, a dead server: leaves nothing behind.
  int GiveUp(const Error& error) {
    stopping_ = true;
    const bool reachable = !cluster_ || error.code == ErrorCode::kCancelled || error.code == ErrorCode::kTimeout;
    if (client_ && job_id_.value != 0 && !job_over_ && reachable) {
      Message cancel;
      cancel.header.mutable_cancel()->set_job(job_id_.value);
      cancel.header.mutable_cancel()->set_reason(error.message);
      // Best effort: the cluster ends anyway, or the job shows in its status. A second Ctrl-C does not wait for it.
      (void)client_->Ask(std::move(cancel), kCancelTimeout).has_value();
    }
    const int exit_code = Complain(error);
    if (error.code != ErrorCode::kCancelled) MentionLogs();
    return exit_code;
  }

  void MentionLogs() {
    if (!cluster_) return;
    cluster_->KeepLogs();
    std::fprintf(stderr, "  logs: %s\n", cluster_->log_dir().c_str());
  }

  const Args& args_;
  JobFile job_;
  SignalFd& signals_;
  SystemClock clock_;
  const TimePoint began_ = clock_.Now();
  ZmqContext context_;
  std::unique_ptr<LocalCluster> cluster_;
  std::unique_ptr<BlockingClient> client_;
  JobId job_id_;
  bool job_over_ = false;
  bool stopping_ = false;  // what happens to the processes no longer matters
  TraceCollector trace_;
  pb::JobStatus last_;
  std::string model_line_;
};

int RunJob(const Args& args) {
  if (args.Given("restore") && !args.List("set").empty()) {
    return Complain(kExitUsage, "sheaf run: --set and --restore: a job goes on as it was when it was saved");
  }
  auto signals = SignalFd::Create();  // before ZeroMQ starts threads
  if (!signals) return Complain(signals.error());
  auto job = LoadJobFile(args.operands()[0], JobEnvironment(environ), args.List("set"));
  if (!job) return ComplainOfJob(job.error());
  return Run(args, std::move(*job), **signals).Execute();
}

}  // namespace

Command RunCommand() {
  CommandLine line{.name = "sheaf run",
                   .operands = "JOB.textproto",
                   .summary = "trains a job on a cluster started for it on this machine",
                   .least_operands = 1,
                   .most_operands = 1};
  line.options = {
      {.name = "servers",
       .kind = Option::kInteger,
       .value_name = "N",
       .fallback = "2",
       .help = "servers to start",
       .least = 1,
       .most = 64},
      {.name = "workers",
       .kind = Option::kInteger,
       .value_name = "N",
       .fallback = "2",
       .help = "workers to start",
       .least = 1,
       .most = 256},
      SetOption(),
      {.name = "data",
       .value_name = "DIR",
       .help = "where the job's data paths start (SHEAF_DATA, else the job file's folder or its data/)"},
      {.name = "report", .value_name = "FILE", .help = "writes the outcome as JSON"},
      {.name = "model", .value_name = "FILE", .help = "writes the trained model (safetensors)"},
      {.name = "trace", .value_name = "FILE", .help = "writes who did what when, as Chrome trace JSON (Perfetto)"},
      {.name = "log_dir",
       .value_name = "DIR",
       .help = "logs of the processes (else a temporary folder, kept if the run fails)"},
      {.name = "store_dir",
       .value_name = "DIR",
       .help = "servers and the scheduler keep what they acknowledge in DIR/server-0, DIR/scheduler and so on, and are "
               "started again if they die"},
      CheckpointDirOption(),
      {.name = "restore",
       .value_name = "NAME",
       .help = "goes on from this checkpoint of --checkpoint_dir (\"latest\": the newest) as the job was then"},
      {.name = "replicas",
       .kind = Option::kInteger,
       .value_name = "N",
       .fallback = "1",
       .help = "copies of all rows, on as many servers; with 2 or more, servers that die are started again",
       .least = 1,
       .most = 8},
      {.name = "cache_mb",
       .kind = Option::kInteger,
       .value_name = "N",
       .fallback = "0",
       .help = "memory of a worker for parsed rows; 0: its default",
       .least = 0,
       .most = 1 << 20},
      {.name = "no_restart", .kind = Option::kFlag, .help = "does not start workers again that die"},
      {.name = "restart_workers", .kind = Option::kFlag, .help = "starts workers again that die, which is the default"},
      {.name = "quiet", .kind = Option::kFlag, .help = "no progress"},
      {.name = "scheduler", .value_name = "ADDRESS", .help = "runs on this cluster instead of starting one"},
      {.name = "timeout",
       .kind = Option::kNumber,
       .value_name = "SECONDS",
       .fallback = "0",
       .help = "ends the run after so long; 0: no limit",
       .least = 0,
       .most = 1e7},
      OutputOption(),
  };
  line.notes =
      "A value comes from --set, else the environment (SHEAF_JOB_TRAIN__EPOCHS=3), else the file.\n"
      "Ctrl-C cancels the job and ends every process.\n";
  return {std::move(line), RunJob};
}

}  // namespace sheaf::cli
