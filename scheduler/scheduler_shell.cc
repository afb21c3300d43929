#include "scheduler/scheduler_shell.h"

#include <glog/logging.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr Duration kBeginRetry = Milliseconds(100);
constexpr uint32_t kAskAgainMs = 100;

bool MayPass(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kTimeout || code == ErrorCode::kResourceExhausted;
}

}  // namespace

Result<std::unique_ptr<SchedulerShell>> SchedulerShell::Open(ZmqContext& context, const Clock& clock,
                                                             SchedulerOptions options, Places places) {
  std::unique_ptr<SchedulerShell> shell(new SchedulerShell(context, clock, std::move(options), std::move(places)));
  if (!shell->places_.meta) SHEAF_RETURN_IF_ERROR(shell->OpenAlone());
  return shell;
}

SchedulerShell::SchedulerShell(ZmqContext& context, const Clock& clock, SchedulerOptions options, Places places)
    : clock_(clock), options_(std::move(options)), places_(std::move(places)),
      transport_(context, kSchedulerPeer,
                 [this] {
                   ZmqTransportOptions transport;
                   transport.on_disconnected = [this](PeerId peer) {
                     if (term_ != nullptr) term_->OnDisconnected(peer, loop_.Now());
                   };
                   transport.on_problem = [](const std::string& text) { LOG(WARNING) << text; };
                   return transport;
                 }()),
      loop_(transport_, clock) {}

SchedulerShell::~SchedulerShell() = default;

Status SchedulerShell::OpenAlone() {
  SavedState saved;
  if (places_.data.empty()) {
    SHEAF_ASSIGN_OR_RETURN(saved, TakeOver(memory_, options_.partition_count, EntropySeed() | 1));
  } else {
    SHEAF_ASSIGN_OR_RETURN(folder_, SchedulerFolder::Open(places_.data, options_.partition_count));
    saved = folder_->TakeSaved();
  }
  std::unique_ptr<CheckpointKeeper> checkpoints;
  if (!places_.checkpoints.empty()) {
    SHEAF_ASSIGN_OR_RETURN(checkpoints, CheckpointKeeper::Open(places_.checkpoints, CheckpointKeeper::Lock::kTake));
  }
  MetaStore& store = folder_ == nullptr ? static_cast<MetaStore&>(memory_) : folder_->store();
  Begin(store, std::move(saved), std::move(checkpoints), [] { return true; });
  return {};
}

Result<std::string> SchedulerShell::Bind(const std::string& address) { return transport_.Bind(address); }

void SchedulerShell::Begin(MetaStore& store, SavedState saved, std::unique_ptr<CheckpointKeeper> checkpoints,
                           std::function<bool()> may_send) {
  SchedulerOptions options = options_;
  if (checkpoints != nullptr) options.checkpoints = checkpoints->found();
  term_ = std::make_unique<SchedulerTerm>(std::move(options), store, std::move(saved), std::move(checkpoints),
                                          transport_, clock_, std::move(may_send));
  if (term_->checkpoints_fd() < 0) return;
  loop_.Watch(term_->checkpoints_fd(), [this] {
    term_->OnCheckpointsDone(loop_.Now());
    Flush(loop_.Now());
  });
}

void SchedulerShell::End(const Error& why) {
  if (term_ != nullptr && term_->checkpoints_fd() >= 0) loop_.Unwatch(term_->checkpoints_fd());
  term_.reset();
  etcd_.reset();
  if (leadership_ == nullptr || (why.code != ErrorCode::kAlreadyExists && !MayPass(why.code))) {
    outcome_ = Failure{why};
    return loop_.Stop();
  }
  LOG(WARNING) << "leads no more: " << why.message;
  if (elected_) leadership_->GiveUp(*std::exchange(elected_, std::nullopt));
}

Status SchedulerShell::Run(int stop_fd, const std::function<void()>& take_signal) {
  loop_.Watch(stop_fd, [&] {
    take_signal();
    loop_.Stop();
  });
  if (places_.meta) {
    ElectionOptions election;
    election.name = StrCat(std::hex, EntropySeed());
    election.address = advertised_;
    election.ttl = places_.lease;
    leadership_ = std::make_unique<Leadership>(*places_.meta, std::move(election), clock_);
    loop_.Watch(leadership_->fd(), [this] { OnLeadership(loop_.Now()); });
  }
  loop_.Run(*this);
  return outcome_;
}

void SchedulerShell::OnMessage(PeerId from, Message message) {
  if (term_ != nullptr) return term_->OnMessage(from, message, loop_.Now());
  SendToLeader(from, message);
}

void SchedulerShell::OnTick(TimePoint now) {
  if (elected_ && term_ == nullptr && now >= begin_at_) TryToBegin(now);
  if (term_ != nullptr) term_->OnTick(now);
  Flush(now);
}

void SchedulerShell::Flush(TimePoint now) {
  if (term_ == nullptr) return;
  if (const Status flushed = term_->Flush(now); !flushed) End(flushed.error());
}

void SchedulerShell::OnLeadership(TimePoint now) {
  Leadership::View view = leadership_->Look();
  if (view.leader == advertised_) view.leader.clear();
  if (!view.leader.empty() && view != view_) LOG(INFO) << "stands by: " << view.leader << " leads";
  view_ = view;
  if (elected_ && elected_ != view.term) {
    End({ErrorCode::kAlreadyExists, "the lease in etcd has ended, or could not be renewed in time"});
  }
  if (!view.term || elected_ == view.term) return;
  elected_ = view.term;
  begin_failed_ = false;
  TryToBegin(now);
}

void SchedulerShell::TryToBegin(TimePoint now) {
  const Status begun = BeginElected(*elected_);
  if (begun) return;
  if (!MayPass(begun.error().code)) return End(begun.error());
  if (!std::exchange(begin_failed_, true)) LOG(WARNING) << "cannot begin to lead: " << begun.error().message;
  begin_at_ = now + kBeginRetry;
}

Status SchedulerShell::BeginElected(int64_t term) {
  EtcdMetaStore::Options options;
  options.fence = leadership_->FenceOf(term);
  SHEAF_ASSIGN_OR_RETURN(etcd_, EtcdMetaStore::Open(*places_.meta, std::move(options)));
  SHEAF_ASSIGN_OR_RETURN(SavedState saved, TakeOver(*etcd_, options_.partition_count, EntropySeed() | 1));
  std::unique_ptr<CheckpointKeeper> checkpoints;
  if (!places_.checkpoints.empty()) {
    // Who led before may be stopped in the middle, with the lock: it is etcd that says who may write there.
    SHEAF_ASSIGN_OR_RETURN(checkpoints, CheckpointKeeper::Open(places_.checkpoints, CheckpointKeeper::Lock::kNone));
  }
  LOG(INFO) << "leads with epoch=" << saved.epoch << " term=" << term << " address=" << advertised_;
  Begin(*etcd_, std::move(saved), std::move(checkpoints), [this, term] { return leadership_->MayAct(term); });
  return {};
}

void SchedulerShell::SendToLeader(PeerId from, const Message& message) {
  Message answer;
  answer.header.set_request(message.header.request());
  pb::Refusal& refusal = *answer.header.mutable_refusal();
  refusal.set_reason(pb::Refusal::NOT_LEADER);
  refusal.set_leader(view_.leader);
  refusal.set_leader_term(static_cast<uint64_t>(view_.leader_term));
  refusal.set_retry_after_ms(kAskAgainMs);
  refusal.set_text(view_.leader.empty() ? "this scheduler stands by, and knows of none that leads"
                                        : "the scheduler at " + view_.leader + " leads");
  (void)transport_.Send(from, std::move(answer));
}

Status WriteAddressFile(const std::string& path, const std::string& address) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << address << '\n';
    file.flush();
    if (!file) return Fail(ErrorCode::kIo, "cannot write ", temporary, ": ", std::strerror(errno));
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return Fail(ErrorCode::kIo, "cannot rename ", temporary, " to ", path, ": ", std::strerror(errno));
  }
  return {};
}

}  // namespace sheaf
