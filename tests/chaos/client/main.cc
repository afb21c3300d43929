// sheaf-chaos-client: pushes to a cluster that is being broken, and checks what became of it. tests/chaos starts it.
#include <gflags/gflags.h>

#include <cstdio>

#include "common/runtime/exit_codes.h"
#include "common/runtime/flags_env.h"
#include "tests/chaos/client/acts.h"

DEFINE_string(scheduler, "tcp://127.0.0.1:7070", "the scheduler's address");
DEFINE_uint64(job, 0, "whose table of weights is pushed to");
DEFINE_uint64(seed, 1, "of what is pushed");
DEFINE_uint32(client, 0, "push: which one this is");
DEFINE_string(ledger, "", "push: the file that says what was acknowledged; check: FILE.0, FILE.1, ... of --clients");
DEFINE_uint32(clients, 1, "check: of so many");
DEFINE_uint64(most, 0, "push: ends after so many pushes; 0: when told to");
DEFINE_string(stalls, "/dev/null", "push: where pauses are written down");
DEFINE_int32(servers, 3, "settle: so many servers");
DEFINE_string(without, "", "settle: but not this one");
DEFINE_double(within_s, 60, "settle, and waiting for the table: for so long at most, in seconds");

namespace sheaf::chaos {
namespace {

// Longer than anything that the driver does to a server: silence is borne, and the push goes on.
constexpr Duration kDeadline = std::chrono::seconds(60);

Result<std::vector<Ledger>> OpenAll() {
  std::vector<Ledger> ledgers;
  for (uint32_t i = 0; i < FLAGS_clients; ++i) {
    SHEAF_ASSIGN_OR_RETURN(Ledger ledger, Ledger::Open(FLAGS_ledger + "." + std::to_string(i), FLAGS_seed, i));
    ledgers.push_back(std::move(ledger));
  }
  return ledgers;
}

Status Run(const std::string& act, SignalFd& signals) {
  const auto within = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(FLAGS_within_s));
  ZmqContext context;
  BlockingClientOptions options;
  options.scheduler_deadline = act == "settle" ? std::chrono::seconds(2) : kDeadline;
  options.client.deadline = kDeadline;
  auto connected = BlockingClient::Connect(context, FLAGS_scheduler, std::move(options));
  if (!connected) return Failure{connected.error()};
  BlockingClient& client = **connected;
  if (act == "digest") return PrintDigests(client);
  if (act == "settle") return Settle(client, FLAGS_servers, FLAGS_without, within);
  SHEAF_ASSIGN_OR_RETURN(const TableId table, WaitForTable(client, JobId(FLAGS_job), within));
  if (act == "check") {
    SHEAF_ASSIGN_OR_RETURN(std::vector<Ledger> ledgers, OpenAll());
    return Check(client, table, std::move(ledgers));
  }
  SHEAF_ASSIGN_OR_RETURN(Ledger ledger, Ledger::Open(FLAGS_ledger, FLAGS_seed, FLAGS_client));
  return PushUntilStopped(client, table, ledger, FLAGS_most, FLAGS_stalls, signals);
}

}  // namespace
}  // namespace sheaf::chaos

int main(int argc, char** argv) {
  const auto flags = sheaf::ParseFlags(
      argc, argv,
      {"sheaf-chaos-client", "push|check|digest|settle [flags]",
       "Pushes to a cluster that is being broken, and checks what became of it.", true});
  if (flags.exit_code) return *flags.exit_code;
  const std::string act = flags.arguments.size() == 1 ? flags.arguments[0] : "";
  if (act != "push" && act != "check" && act != "digest" && act != "settle") {
    std::fprintf(stderr, "sheaf-chaos-client: what to do? push, check, digest or settle\n");
    return sheaf::kExitUsage;
  }
  auto signals = sheaf::SignalFd::Create();
  if (!signals) {
    std::fprintf(stderr, "sheaf-chaos-client: %s\n", signals.error().message.c_str());
    return sheaf::kExitFailed;
  }
  const sheaf::Status done = sheaf::chaos::Run(act, **signals);
  if (done) return sheaf::kExitOk;
  std::fprintf(stderr, "sheaf-chaos-client: %s\n", done.error().message.c_str());
  return sheaf::ExitCodeOf(done.error().code);
}
