#include "worker/worker_shell.h"

#include <glog/logging.h>

#include "common/base/failpoint.h"
#include "common/base/random.h"
#include "common/net/local_address.h"
#include "common/runtime/host_id.h"
#include "common/runtime/logging.h"

namespace sheaf {
namespace {

WorkerOptions CoreOptions(PeerId self, const WorkerShellOptions& shell, TraceLog& trace, BodyPool& bodies) {
  WorkerOptions options;
  options.self = ThisProcess(pb::WORKER, self);
  options.trace = &trace;
  options.client.bodies = &bodies;
  options.scheduler = {.address = shell.scheduler, .deadline = shell.scheduler_timeout};
  return options;
}

}  // namespace

WorkerShell::WorkerShell(ZmqContext& context, const Clock& clock, WorkerShellOptions options)
    : options_(std::move(options)), self_(EntropySeed()), host_(HostId()),
      transport_(context, self_,
                 [] {
                   ZmqTransportOptions transport;
                   transport.on_problem = [](const std::string& text) { LOG(WARNING) << text; };
                   return transport;
                 }()),
      trace_(clock), loop_(transport_, clock), loader_(options_.data_dir, options_.cache_bytes, &trace_),
      core_(CoreOptions(self_, options_, trace_, transport_.bodies()), loader_, MakeTrainStep) {}

Status WorkerShell::Run(int stop_fd, const std::function<void()>& take_signal) {
  SHEAF_RETURN_IF_ERROR(transport_.Connect(kSchedulerPeer, core_.link().address()));
  loop_.Watch(stop_fd, [&] {
    take_signal();
    if (leaving_) return loop_.Stop();  // asked twice: now
    LOG(INFO) << "leaving";
    leaving_ = true;
    leave_by_ = loop_.Now() + std::chrono::seconds(5);
    core_.Leave(loop_.Now(), out_);
    Flush();
  });
  loop_.Watch(loader_.fd(), [this] {
    loader_.Deliver(core_, loop_.Now(), out_);
    Flush();
  });
  loop_.Run(*this);
  return outcome_;
}

void WorkerShell::OnMessage(PeerId from, Message message) {
  core_.OnMessage(from, message, loop_.Now(), out_);
  transport_.bodies().Recycle(message.header);
  Flush();
}

void WorkerShell::OnTick(TimePoint now) {
  core_.OnTick(now, out_);
  if (const Status connected = transport_.Connect(kSchedulerPeer, core_.link().address()); !connected) {
    LOG_EVERY_N(WARNING, 100) << connected.error().message;  // one of several that cannot be: the next one's turn comes
  }
  Flush();
  if (core_.link().registered() && !named_) {
    named_ = true;
    SetLogRole(core_.link().name());
    LOG(INFO) << "registered with " << core_.link().address() << " as " << core_.link().name();
  }
  if (core_.fatal()) {
    outcome_ = Failure{*core_.fatal()};
    return loop_.Stop();
  }
  if (core_.may_leave() || (leaving_ && now > leave_by_)) return loop_.Stop();
}

// One batch a turn: messages that came while it was computed are served before the next.
void WorkerShell::OnTurnEnd(TimePoint now) {
  core_.StartBatches(now, out_);
  Flush();
  if (core_.ComputeOne()) loop_.RequestTurn();
}

void WorkerShell::Flush() {
  for (const std::string& line : core_.TakeEvents()) LOG(WARNING) << line;
  for (const PeerId gone : core_.TakeDisconnections()) transport_.Disconnect(gone);
  for (const pb::ShardEndpoint& shard : core_.TakeConnections()) {
    const Status connected = transport_.Connect(PeerId(shard.peer()), AddressToReach(shard, host_));
    if (!connected) {
      outcome_ = Wrap(connected.error(), "cannot connect to a server at ", shard.address());
      return loop_.Stop();
    }
  }
  for (Outbox::Item& item : out_.items()) {
    const uint64_t paused = item.message.header.worker_report().paused();
    const bool is_still = paused != 0 && paused % 2 == 0, stood_still = paused % 2 == 1;
    if (is_still) Pass("worker.still.untold");
    if (stood_still) Pass("worker.stood_still.untold");
    // Lost is lost: whoever needs the answer sends again.
    if (const Status sent = transport_.Send(item.to, std::move(item.message)); !sent) {
      LOG_EVERY_N(WARNING, 100) << "not sent: " << sent.error().message;
    }
    if (is_still) Pass("worker.still.told");
    if (stood_still) Pass("worker.stood_still.told");
  }
  out_.clear();
}

}  // namespace sheaf
