#include "server/shard_server.h"

#include <glog/logging.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "common/base/failpoint.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/net/advertised_address.h"
#include "common/net/local_address.h"
#include "common/checkpoint/disk_space.h"
#include "common/runtime/exit_codes.h"
#include "common/runtime/host_id.h"
#include "common/runtime/logging.h"
#include "common/storage/file_log.h"
#include "server/memory_shares.h"

namespace sheaf {
namespace {

constexpr Duration kServerTickEvery = Milliseconds(20);
constexpr Duration kRecoveryWordEvery = std::chrono::seconds(5);
// Of the disk, for when it is full; if the disk has so many times as much free.
constexpr uint64_t kReserve = uint64_t{64} << 20, kLeastReserve = uint64_t{8} << 20, kRoomForReserve = 4;
constexpr Duration kPoisonWordEvery = std::chrono::seconds(10);
// Of one write of a log. From the first on it is said; who takes longer than the others is taken for hung: sooner, if
// others have all that is needed to go on.
constexpr Duration kWriteWorthSaying = std::chrono::seconds(1);
constexpr Duration kHungIfReplaceable = std::chrono::seconds(5);
constexpr Duration kHung = std::chrono::seconds(30);

// Whom others should call when we listen on `listen`.
ZmqTransportOptions ServerTransport() {
  ZmqTransportOptions options;
  options.on_problem = [](const std::string& text) { LOG(WARNING) << text; };
  return options;
}

}  // namespace

ShardServer::ShardServer(ZmqContext& context, const Clock& clock, ServerOptions options)
    : context_(context), clock_(clock), options_(std::move(options)), self_(EntropySeed()),
      transport_(context, self_, ServerTransport()), trace_(clock),
      loop_(transport_, clock, {.tick_every = kServerTickEvery}),
      stats_(options_.shards), disks_(options_.shards), hangs_(options_.shards, false),
      offered_(options_.shards, 0), has_tasks_(options_.shards, true) {}

std::string ShardServer::AddressOf(uint32_t shard) const {
  if (!options_.ipc_dir.empty()) {
    return "ipc://" + options_.ipc_dir + "/sheaf-server-" + std::to_string(getpid()) + "-" + std::to_string(shard);
  }
  const uint32_t port = options_.port == 0 ? 0 : options_.port + shard;
  return TcpAddress(options_.listen, std::to_string(port));
}

Result<ShardThread::Durable> ShardServer::OpenDurable(uint32_t shard) {
  ShardThread::Durable durable;
  if (folder_ == nullptr) return durable;
  // It is cut by whole segments.
  const size_t segment_bytes = std::clamp<size_t>(options_.snapshots.min_log_bytes / 2, 64 << 10, 64 << 20);
  const FileLogOptions log_options{
      .segment_bytes = segment_bytes,
      .since = folder_->same_boot() ? FileLogOptions::Since::kSameBoot : FileLogOptions::Since::kPowerLoss};
  SHEAF_ASSIGN_OR_RETURN(auto log, FileLog::Open(folder_->LogOf(shard), log_options));
  if (log->torn_bytes() > 0) {
    LOG(INFO) << "shard " << shard << ": the last " << log->torn_bytes()
              << " bytes of its log were torn and are cut off: they were not acknowledged";
  }
  const MemoryShares memory = ShareMemory(options_.memory_limit_bytes / options_.shards);
  if (rocks_memory_ == nullptr) {
    rocks_memory_ =
        std::make_shared<const RocksMemory>(memory.unflushed * options_.shards, memory.cache * options_.shards);
  }
  const bool limited = options_.memory_limit_bytes > 0;
  const RocksStoreOptions rocks{
      .write_buffer_bytes = memory.unflushed / 2, .memory = rocks_memory_, .point_reads = limited,
      .cache_point_reads = false};  // rows that are read are in memory then
  durable.options = options_.snapshots;
  if (limited) durable.options.flush_bytes = memory.unflushed / 2;
  durable.reserve =
      std::make_unique<DiskReserve>(folder_->ReserveOf(shard), std::max(kReserve / options_.shards, kLeastReserve));
  if (!durable.reserve->Take(kRoomForReserve)) {
    LOG(WARNING) << "shard " << shard << ": there is no room for a reserve in " << options_.data_dir
                 << ": if the disk fills up, pulls are not answered either, until there is room";
  }
  durable.rows = std::make_unique<SnapshotWriter>(shard, [path = folder_->RowsOf(shard), rocks](OpenAs as) {
    if (as == OpenAs::kAfresh) {
      std::error_code failed;
      std::filesystem::remove_all(path + ".damaged", failed);
      std::filesystem::rename(path, path + ".damaged", failed);
    }
    return OpenRocksStore(path, rocks);
  }, limited ? SnapshotWriter::RowsLeave::kYes : SnapshotWriter::RowsLeave::kNo);
  Status opened = durable.rows->Open(OpenAs::kFound);
  if (!opened && opened.error().code == ErrorCode::kDataLoss) {
    SHEAF_ASSIGN_OR_RETURN(const bool complete, LogIsComplete(*log));
    if (!complete) {
      return Wrap(opened.error(), "the snapshots of shard ", shard,
                  " are damaged, and its log does not have all that is in them");
    }
    LOG(WARNING) << "shard " << shard << ": its snapshots are put aside, as its log has all of it: "
                 << opened.error().message;
    opened = durable.rows->Open(OpenAs::kAfresh);
  }
  if (!opened) return Failure{opened.error()};
  found_bytes_ += log->bytes() + durable.rows->store().bytes();
  durable.log = std::move(log);
  return durable;
}

Status ShardServer::Recover(int stop_fd) {
  if (folder_ == nullptr) return {};
  const TimePoint begin = clock_.Now();
  std::atomic<uint64_t> done = 0, log_done = 0;
  std::vector<Status> outcomes(shards_.size());
  {
    std::mutex said;
    TimePoint next_word = begin + kRecoveryWordEvery;
    std::vector<Thread> threads;
    for (size_t i = 0; i < shards_.size(); ++i) {
      threads.emplace_back("recover-" + std::to_string(i), [&, i] {
        auto recovered = shards_[i]->Recover([&](size_t bytes) -> Status {
          pollfd stop{stop_fd, POLLIN, 0};
          if (poll(&stop, 1, 0) > 0) return Fail(ErrorCode::kCancelled, "stopped while it was recovering");
          const uint64_t so_far = done.fetch_add(bytes) + bytes;
          const std::unique_lock lock(said, std::try_to_lock);
          const TimePoint now = clock_.Now();
          if (!lock || now < next_word) return {};
          next_word = now + kRecoveryWordEvery;
          const double share = static_cast<double>(so_far) / static_cast<double>(std::max(found_bytes_, so_far));
          const double left = ToSeconds(now - begin) * (1 - share) / share;
          LOG(INFO) << "recovering: " << FormatBytes(so_far) << " of " << FormatBytes(found_bytes_) << ", "
                    << FormatFixed(left, 0) << " s to go";
          return {};
        });
        if (!recovered) outcomes[i] = Failure{recovered.error()};
        if (recovered) log_done.fetch_add(recovered->log_bytes);
      });
    }
  }
  for (size_t i = 0; i < outcomes.size(); ++i) {
    if (!outcomes[i] && outcomes[i].error().code == ErrorCode::kCancelled) return outcomes[i];
    if (!outcomes[i]) return Wrap(outcomes[i].error(), "shard ", i, " cannot be recovered from ", options_.data_dir);
  }
  LOG(INFO) << "recovered " << FormatBytes(done - log_done) << " of snapshots and " << FormatBytes(log_done)
            << " of log in " << FormatSeconds(clock_.Now() - begin);
  return {};
}

Status ShardServer::Bind() {
  if (!options_.data_dir.empty()) {
    SHEAF_ASSIGN_OR_RETURN(folder_, DataFolder::Open(options_.data_dir, options_.shards));
  }
  if (!options_.checkpoint_dir.empty()) {
    auto space = OpenDiskSpace(options_.checkpoint_dir, IfAbsent::kMake);
    if (!space) return Wrap(space.error(), "--checkpoint_dir");
    checkpoints_ = std::move(*space);
  }
  for (uint32_t i = 0; i < options_.shards; ++i) {
    ShardOptions shard = options_.shard;
    shard.trace = &trace_;
    shard.checkpoints = checkpoints_ != nullptr;
    shard.row_limit_bytes = ShareMemory(options_.memory_limit_bytes / options_.shards).rows;
    SHEAF_ASSIGN_OR_RETURN(auto durable, OpenDurable(i));
    shards_.push_back(
        std::make_unique<ShardThread>(context_, clock_, i, shard, std::move(durable), checkpoints_.get()));
    const std::string address = AddressOf(i);
    const auto bound = shards_[i]->Bind(address);
    if (!bound) {
      if (bound.error().code == ErrorCode::kAlreadyExists) {
        return Fail(
            ErrorCode::kAlreadyExists, "shard ", i, " cannot listen at ", address,
            ": the port is in use; give another --port, 0 for any that is free, or stop the process that has it");
      }
      return Wrap(bound.error(), "shard ", i, " cannot listen at ", address, " (--listen, --port, --ipc_dir)");
    }
    pb::ShardEndpoint endpoint;
    endpoint.set_peer(shards_[i]->peer().value);
    const std::string port = bound->substr(bound->rfind(':') + 1);
    const std::string host = AdvertisedHost(options_.listen, options_.advertise);
    endpoint.set_address(options_.ipc_dir.empty() ? TcpAddress(host, port) : *bound);
    endpoints_.push_back(std::move(endpoint));
  }
  if (options_.local_sockets && options_.ipc_dir.empty()) BindLocal();
  return {};
}

// Best effort: who finds no unix socket comes over TCP.
void ShardServer::BindLocal() {
  const uint64_t host = HostId();
  if (host == 0) return;
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (const auto bound = shards_[i]->Bind(LocalAddress(shards_[i]->peer())); !bound) {
      LOG(WARNING) << "from shard " << i << " on also processes of this host come over TCP: " << bound.error().message;
      return;
    }
    endpoints_[i].set_host(host);
  }
}

Status ShardServer::Run(int stop_fd, const std::function<void()>& take_signal) {
  const Status recovered = Recover(stop_fd);
  if (!recovered && recovered.error().code == ErrorCode::kCancelled) {
    take_signal();
    LOG(INFO) << recovered.error().message;
    return {};
  }
  if (!recovered) return recovered;
  MemberInfo self = ThisProcess(pb::SERVER, self_);
  self.shards = endpoints_;
  self.store = folder_ == nullptr ? 0 : folder_->store();
  self.store_start = folder_ == nullptr ? 0 : folder_->starts();
  control_ = std::make_unique<ControlClient>(
      self, SchedulerLinkOptions{.address = options_.scheduler, .deadline = options_.scheduler_timeout}, &trace_);
  SHEAF_RETURN_IF_ERROR(transport_.Connect(kSchedulerPeer, control_->link().address()));
  loop_.Watch(stop_fd, [&] {
    take_signal();
    LOG(INFO) << "leaving";
    control_->Leave(merged_, loop_.Now(), out_);
    Flush();
    loop_.Stop();
  });
  for (size_t i = 0; i < shards_.size(); ++i) {
    loop_.Watch(shards_[i]->stats_fd(), [this, i] { OnStats(i); });
    shards_[i]->Start();
  }
  loop_.Run(*this);
  for (const auto& shard : shards_) shard->Stop();
  if (outcome_) {
    std::vector<Thread> threads;
    for (const auto& shard : shards_) threads.emplace_back("save", [&shard] { shard->SaveBeforeEnd(); });
  }
  return outcome_;
}

void ShardServer::OnMessage(PeerId from, Message message) {
  if (from != kSchedulerPeer) return;
  control_->OnMessage(message, loop_.Now(), out_);
  if (auto config = control_->TakeConfig()) {
    config_ = std::make_shared<const pb::ClusterConfig>(std::move(*config));
    OfferConfig();
  }
  if (auto tasks = control_->TakeTasks()) {
    tasks_ = std::move(*tasks);
    if (tasks_.checkpoint.id() != 0) Pass("server.ordered");
    has_tasks_.assign(shards_.size(), false);
    OfferTasks();
  }
  Flush();
}

void ShardServer::OfferTasks() {
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (!has_tasks_[i]) has_tasks_[i] = shards_[i]->Offer(tasks_);
  }
}

bool ShardServer::IsReplaceable(size_t shard) const {
  if (config_ == nullptr) return false;
  const uint64_t peer = shards_[shard]->peer().value;
  const auto us = std::ranges::find_if(config_->server(), [&](const pb::ServerInfo& server) {
    return std::ranges::find(server.shard(), peer, &pb::ShardEndpoint::peer) != server.shard().end();
  });
  if (us == config_->server().end()) return false;
  bool any = false;
  for (const pb::PartitionConfig& partition : config_->partition()) {
    if (partition.primary() != us->node()) continue;
    any = true;
    if (std::ranges::none_of(partition.replica(), &pb::Replica::in_sync)) return false;
  }
  return any;
}

Status ShardServer::WatchDisks(TimePoint now) {
  for (size_t i = 0; i < shards_.size(); ++i) {
    const DiskWatch& disk = shards_[i]->disk();
    const Duration waiting = disk.Waiting(now);
    const bool was_slow = disks_[i].slow();
    disks_[i].OnTick(disk.average(), waiting, disk.writes(), now);
    const bool hangs = waiting > kWriteWorthSaying;
    if (hangs && !hangs_[i]) {
      LOG(WARNING) << "shard " << i << " has been writing its log for " << FormatSeconds(waiting)
                   << ": the disk of " << options_.data_dir << " is slow, or hangs; until then it answers nobody";
    } else if (disks_[i].slow() != was_slow) {
      LOG(WARNING) << "shard " << i << ": writing its log takes "
                   << FormatSeconds(std::max(disk.average(), waiting))
                   << (was_slow ? ": the disk is good enough again"
                                : ": the disk is slow; others take its partitions over if they have copies");
    }
    if (disks_[i].slow() != was_slow) Merge();
    hangs_[i] = hangs;
    if (waiting > kHung || (waiting > kHungIfReplaceable && IsReplaceable(i))) {
      return Fail(ErrorCode::kIo, "shard ", i, " has been writing its log for ", FormatSeconds(waiting),
                  ": the disk of ", options_.data_dir, " hangs. The process ends, so that ",
                  IsReplaceable(i) ? "the copies that others have take over" : "it is started again");
    }
  }
  return {};
}

void ShardServer::Merge() {
  merged_ = MergeStats(stats_);
  for (size_t i = 0; i < shards_.size(); ++i) {
    merged_.disk_write_us =
        std::max<uint64_t>(merged_.disk_write_us, shards_[i]->disk().average() / std::chrono::microseconds(1));
    if (!disks_[i].slow() || merged_.disk != pb::DISK_SOUND) continue;
    merged_.disk = pb::DISK_SLOW;
    merged_.disk_text = StrCat("its disk: writing the log of shard ", i, " takes ",
                               FormatSeconds(shards_[i]->disk().average()));
  }
}

// The scheduler knows whose the pushes are, and says it in the status.
void ShardServer::SayTroubles() {
  if (merged_.copies_differed > said_differed_) {
    said_differed_ = merged_.copies_differed;
    LOG(ERROR) << merged_.differed_text << "; the memory of this machine, or of its primary's, may be failing";
  }
  if (merged_.poisoned > said_poisoned_ && clock_.Now() >= next_word_) {
    LOG(WARNING) << merged_.poisoned - said_poisoned_ << " pushes were refused; the last one: "
                 << merged_.poison_text;
    said_poisoned_ = merged_.poisoned;
    next_word_ = clock_.Now() + kPoisonWordEvery;
  }
}

void ShardServer::OnTick(TimePoint now) {
  if (const Status sound = WatchDisks(now); !sound) {
    // The thread that writes cannot be waited for.
    LOG(ERROR) << sound.error().message;
    std::_Exit(ExitCodeOf(sound.error().code));
  }
  OfferConfig();
  OfferTasks();
  control_->OnTick(merged_, now, out_);
  if (const Status connected = transport_.Connect(kSchedulerPeer, control_->link().address()); !connected) {
    LOG_EVERY_N(WARNING, 100) << connected.error().message;  // one of several that cannot be: the next one's turn comes
  }
  Flush();
  if (control_->link().registered() && name_ != control_->link().name()) {
    name_ = control_->link().name();
    SetLogRole(name_);
    LOG(INFO) << "registered with " << control_->link().address() << " as " << name_;
  }
  if (control_->told_to_stop()) {
    LOG(INFO) << "told to stop: others have all that it had; leaving";
    control_->Leave(merged_, now, out_);
    Flush();
    return loop_.Stop();
  }
  if (control_->link().fatal()) {
    outcome_ = Failure{*control_->link().fatal()};
    loop_.Stop();
  }
}

void ShardServer::OnStats(size_t shard) {
  if (auto stats = shards_[shard]->TakeStats()) stats_[shard] = std::move(*stats);
  Merge();
  SayTroubles();
  if (control_->HasNews(merged_)) loop_.RequestTick();
  if (!merged_.failure.empty() && outcome_) {
    outcome_ = Fail(ErrorCode::kIo, "the log cannot be written, and what it holds of the last pushes is not known: ",
                    merged_.failure);
    loop_.Stop();
  }
}

void ShardServer::OfferConfig() {
  if (config_ == nullptr) return;
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (offered_[i] < config_->generation() && shards_[i]->Offer(config_)) offered_[i] = config_->generation();
  }
}

void ShardServer::Flush() {
  if (control_ != nullptr) {
    for (const std::string& line : control_->TakeEvents()) LOG(WARNING) << line;
  }
  for (Outbox::Item& item : out_.items()) {
    const auto phase = item.message.header.server_report().checkpoint().phase();
    if (phase == pb::CheckpointState::PREPARED) Pass("server.prepared.untold");
    if (phase == pb::CheckpointState::WRITTEN) Pass("server.written.untold");
    // Lost is lost: the next report says the same.
    if (const Status sent = transport_.Send(item.to, std::move(item.message)); !sent) {
      LOG_EVERY_N(WARNING, 100) << "a report was not sent: " << sent.error().message;
    }
    if (phase == pb::CheckpointState::PREPARED) Pass("server.prepared.told");
    if (phase == pb::CheckpointState::WRITTEN) Pass("server.written.told");
  }
  out_.clear();
}

}  // namespace sheaf
