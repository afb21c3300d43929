// sheaf status, sheaf jobs, sheaf cancel: the cluster as the scheduler sees it.
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/progress_line.h"
#include "cli/report.h"
#include "cli/terminal.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

using json = nlohmann::ordered_json;

std::string Dump(const json& value) { return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n"; }
std::string OrDash(const std::string& text) { return text.empty() ? "-" : Printable(text); }

json NodeJson(const pb::NodeStatus& node) {
  return {{"node", node.node()},
          {"name", node.name()},
          {"role", ToLower(pb::Role_Name(node.role()))},
          {"state", node.state()},
          {"host", node.host()},
          {"pid", node.pid()},
          {"partitions", node.partitions()},
          {"copies", node.copies()},
          {"draining", node.draining()},
          {"keys_per_second", node.keys_per_second()},
          {"leases", node.leases()},
          {"rows", node.rows()},
          {"cold_rows", node.cold_rows()},
          {"cold_reads", node.cold_reads()},
          {"evicted_rows", node.evicted_rows()},
          {"expired_rows", node.expired_rows()},
          {"unadmitted", node.unadmitted()},
          {"memory_bytes", node.memory_bytes()},
          {"examples_per_second", node.examples_per_second()},
          {"refused_batches", node.refused_batches()},
          {"refused_pushes", node.refused_pushes()},
          {"quarantined", node.quarantined()},
          {"disk", ToLower(pb::DiskTrouble_Name(node.disk()).substr(5))},
          {"disk_write_us", node.disk_write_us()},
          {"compared_rows", node.compared_rows()},
          {"copies_differed", node.copies_differed()},
          {"waiting_for", node.waiting_for()},
          {"last_report_seconds", node.last_report_seconds()}};
}

json JobJson(const pb::JobStatus& job) {
  return {{"job", job.job()},
          {"name", job.name()},
          {"status", PhaseName(job.phase())},
          {"detail", job.detail()},
          {"pass", job.phase() == pb::RUNNING ? ToLower(pb::PassKind_Name(job.pass_kind())) : ""},
          {"epoch", job.epoch()},
          {"epochs", job.epochs()},
          {"rows_done", job.rows_done()},
          {"rows_total", job.rows_total()},
          {"examples_total", job.examples_total()},
          {"train_loss", job.train_loss()},
          {"examples_per_second", job.examples_per_second()},
          {"elapsed_seconds", job.elapsed_seconds()},
          {"seconds_left", SecondsLeft(job)},
          {"staleness", job.staleness()},
          {"workers_lost", job.workers_lost()},
          {"pushes_deduplicated", job.pushes_deduplicated()},
          {"bad_rows", job.bad_rows()},
          {"refused_batches", job.refused_batches()}};
}

json StatusJson(const pb::ClusterStatus& status) {
  json nodes = json::array();
  for (const pb::NodeStatus& node : status.node()) nodes.push_back(NodeJson(node));
  json jobs = json::array();
  for (const pb::JobStatus& job : status.job()) jobs.push_back(JobJson(job));
  return {{"cluster", status.cluster()},
          {"generation", status.generation()},
          {"partitions", status.partition_count()},
          {"replicas", status.replicas()},
          {"moving", status.moving()},
          {"handed_over", status.handed_over()},
          {"uptime_seconds", status.uptime_seconds()},
          {"scheduler_epoch", status.scheduler_epoch()},
          {"build", status.build()},
          {"checkpoint", status.has_checkpoint() ? json(status.checkpoint().name()) : json()},
          {"nodes", std::move(nodes)},
          {"jobs", std::move(jobs)}};
}

std::string Seconds(double seconds) { return FormatDuration(Milliseconds(static_cast<int64_t>(seconds * 1000))); }

std::string JobsTable(const pb::ClusterStatus& status) {
  if (status.job().empty()) return "no jobs\n";
  std::vector<std::vector<std::string>> rows = {
      {"JOB", "NAME", "STATUS", "EPOCH", "DONE", "LOSS", "EX/S", "ELAPSED", "DETAIL"}};
  for (const pb::JobStatus& job : status.job()) {
    const double share = job.work_total() == 0
                             ? 0
                             : 100.0 * static_cast<double>(job.work_done()) / static_cast<double>(job.work_total());
    std::string phase = PhaseName(job.phase());
    if (job.phase() == pb::RUNNING) phase += " (" + ToLower(pb::PassKind_Name(job.pass_kind())) + ")";
    rows.push_back({std::to_string(job.job()), job.name(), phase, StrCat(job.epoch(), "/", job.epochs()),
                    FormatFixed(share, 0) + " %", job.has_train_loss() ? FormatFixed(job.train_loss(), 4) : "-",
                    FormatCount(static_cast<uint64_t>(job.examples_per_second())), Seconds(job.elapsed_seconds()),
                    OrDash(job.detail())});
  }
  return AlignedTable(rows);
}

std::string CheckpointLine(const pb::ClusterStatus& status) {
  if (!status.has_checkpoint()) return "";
  const pb::CheckpointStatus& last = status.checkpoint();
  return StrCat("\ncheckpoint ", Printable(last.name()), " of job ", last.job(), ": ",
                ToLower(pb::CheckpointStatus::Phase_Name(last.phase())), last.detail().empty() ? "" : ": ",
                Printable(last.detail()), "\n");
}

// What should not be, a line each.
std::string Troubles(const pb::ClusterStatus& status) {
  std::string lines;
  for (const pb::NodeStatus& node : status.node()) {
    const std::string name = Printable(node.name());
    const char* const no_work = node.quarantined() ? "; it gets no more work of this job" : "";
    if (node.refused_batches() > 0) {
      lines += StrCat(name, ": ", node.refused_batches(), " gradients were NaN, infinite or too large", no_work, "\n");
    }
    if (node.role() == pb::SERVER && node.refused_pushes() > 0) {
      lines += StrCat(name, " has refused ", node.refused_pushes(), " pushes that were NaN, infinite or too large\n");
    } else if (node.refused_pushes() > 0) {
      lines += StrCat("servers have refused ", node.refused_pushes(), " pushes of ", name, "\n");
    }
    if (node.copies_differed() > 0) {
      lines += StrCat(name, " has made ", node.copies_differed(),
                      " copies anew, as they were not what their primaries had: look at its memory\n");
    }
  }
  return lines.empty() ? lines : "\n" + lines;
}

std::string StatusTable(const pb::ClusterStatus& status) {
  std::string text =
      StrCat("cluster ", status.cluster(), ", up ", Seconds(status.uptime_seconds()), ", ", status.partition_count(),
             " partitions, generation ", status.generation(), ", ", status.build(), "\n\n");
  std::vector<std::vector<std::string>> rows = {
      {"NODE", "STATE", "HOST", "PID", "PARTITIONS", "COPIES", "LEASES", "ROWS", "COLD", "MEMORY", "KEYS/S", "EX/S",
       "HEARD", "WAITS FOR"}};
  for (const pb::NodeStatus& node : status.node()) {
    const bool server = node.role() == pb::SERVER;
    rows.push_back({node.name(), node.draining() && node.state() == "alive" ? "draining" : node.state(),
                    OrDash(node.host()), std::to_string(node.pid()),
                    server ? std::to_string(node.partitions()) : "-", server ? std::to_string(node.copies()) : "-",
                    node.role() == pb::WORKER ? std::to_string(node.leases()) : "-",
                    server ? FormatCount(node.rows()) : "-", server ? FormatCount(node.cold_rows()) : "-",
                    node.memory_bytes() > 0 ? FormatBytes(node.memory_bytes()) : "-",
                    server ? FormatCount(node.keys_per_second()) : "-",
                    node.role() == pb::WORKER ? FormatCount(node.examples_per_second()) : "-",
                    FormatFixed(node.last_report_seconds(), 1) + " s ago", OrDash(node.waiting_for())});
  }
  if (rows.size() > 1)
    text += AlignedTable(rows);
  else
    text += "no servers, no workers\n";
  return text + "\n" + JobsTable(status) + CheckpointLine(status) + Troubles(status);
}

int Show(const Args& args, const std::function<std::string(const pb::ClusterStatus&)>& as_text) {
  const auto scheduler = Connection::Open(args);
  if (!scheduler) return Complain(scheduler.error());
  JobId job;
  if (!args.operands().empty()) {
    const auto id = ParseJobId(args.operands()[0]);
    if (!id) return Complain(kExitUsage, id.error().message);
    job = *id;
  }
  for (;;) {
    const auto status = (*scheduler)->client().GetStatus(job);
    if (!status) return Complain(status.error());
    if (job.value != 0 && status->job().empty()) return Complain(kExitNotFound, StrCat("no job ", job));
    const bool clear = args.Flag("watch") && isatty(STDOUT_FILENO) != 0;
    std::printf("%s%s", clear ? "\x1b[H\x1b[2J" : "", as_text(*status).c_str());
    if (!args.Flag("watch")) return kExitOk;
    std::fflush(stdout);
    if (const Status slept = (*scheduler)->watch().Sleep(std::chrono::seconds(1)); !slept) return kExitInterrupted;
  }
}

int ShowStatus(const Args& args) {
  const bool as_json = args.Text("output") == "json";
  return Show(
      args, [=](const pb::ClusterStatus& status) { return as_json ? Dump(StatusJson(status)) : StatusTable(status); });
}

int ShowJobs(const Args& args) {
  const bool as_json = args.Text("output") == "json";
  return Show(args, [=](const pb::ClusterStatus& status) {
    return as_json ? Dump(StatusJson(status)["jobs"]) : JobsTable(status);
  });
}

int Cancel(const Args& args) {
  const auto id = ParseJobId(args.operands()[0]);
  if (!id) return Complain(kExitUsage, id.error().message);
  ZmqContext context;
  auto client = ConnectTo(context, SchedulerAddress(args), Timeout(args), {});
  if (!client) return Complain(client.error());
  const std::string reason = args.Given("reason") ? args.Text("reason") : "cancelled by `sheaf cancel`";
  if (const Status cancelled = (*client)->CancelJob(*id, reason); !cancelled) return Complain(cancelled.error());
  const auto status = (*client)->GetStatus(*id);
  if (!status) return Complain(status.error());
  for (const pb::JobStatus& job : status->job()) {
    if (job.job() == id->value && job.phase() != pb::CANCELLED) {
      return Complain(kExitFailed, StrCat("job ", id->value, " (", job.name(), ") has ", PhaseName(job.phase()),
                                          " already: there was nothing left to cancel"));
    }
  }
  std::printf("job %llu cancelled\n", static_cast<unsigned long long>(id->value));
  return kExitOk;
}

}  // namespace

Command StatusCommand() {
  return {{.name = "sheaf status",
           .operands = "[JOB]",
           .summary = "the cluster: processes, jobs, who waits for whom",
           .most_operands = 1,
           .options = {{.name = "watch", .kind = Option::kFlag, .help = "again every second"},
                       SchedulerOption(),
                       TimeoutOption(),
                       OutputOption()}},
          ShowStatus};
}
Command JobsCommand() {
  return {{.name = "sheaf jobs",
           .operands = "[JOB]",
           .summary = "the jobs of the cluster",
           .most_operands = 1,
           .options = {{.name = "watch", .kind = Option::kFlag, .help = "again every second"},
                       SchedulerOption(),
                       TimeoutOption(),
                       OutputOption()}},
          ShowJobs};
}
Command CancelCommand() {
  return {{.name = "sheaf cancel",
           .operands = "JOB",
           .summary = "ends a job",
           .least_operands = 1,
           .most_operands = 1,
           .options = {{.name = "reason", .value_name = "TEXT", .help = "shown in the job's status"},
                       SchedulerOption(),
                       TimeoutOption()}},
          Cancel};
}

}  // namespace sheaf::cli
