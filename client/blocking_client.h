// A client for tools: connects to a cluster by its scheduler's address, and waits for each answer.
//
// A shell around PsClient. Thread-safety: none. Ownership: borrows the ZmqContext, owns its transport.
// Errors: kUnavailable (the scheduler did not answer; says where and what to do), those of PsClient's operations, and
// whatever `check` answers.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "client/ps_client.h"
#include "common/base/random.h"
#include "common/net/scheduler_list.h"
#include "common/net/zmq_transport.h"

namespace sheaf {

struct BlockingClientOptions {
  Duration scheduler_deadline = std::chrono::seconds(10);   // for an answer of the scheduler
  ClientOptions client{};
  // Called at least ten times a second while waiting; an error ends the wait with it (Ctrl-C).
  std::function<Status()> check{};
  // Told that the scheduler is silent, and that it is heard again.
  std::function<void(const std::string&)> on_news{};
};

class BlockingClient {
 public:
  // Rows of one partition in key order: keys [n], values [n, dim].
  using RowSink =
      std::function<Status(PartitionId partition, std::span<const HashedKey> keys, std::span<const float> values)>;

  // Fetches the configuration, so a cluster that cannot be reached is an error here. Of several schedulers all
  // addresses, with commas: the one that leads is asked (SchedulerList).
  static Result<std::unique_ptr<BlockingClient>> Connect(ZmqContext& context, const std::string& scheduler_address,
                                                         BlockingClientOptions options = {});
  ~BlockingClient();

  // The scheduler's answer. The request is repeated under one number until then: it must be one that may be. A
  // scheduler that has said that it comes back (GetStatus) is waited for as long as it has said, if that is longer.
  // A refusal is answered as the error it stands for.
  Result<Message> Ask(Message request, Duration deadline);

  Result<pb::ClusterConfig> GetConfig();                    // the newest; operations are routed by it from now on
  Result<pb::ClusterStatus> GetStatus(JobId job);           // job 0: the cluster and all jobs
  Result<JobId> SubmitJob(const pb::JobSpec& spec);
  Status CancelJob(JobId job, const std::string& reason);
  // Of the running job; empty: a name is made up. What becomes of it, GetCheckpoint says.
  Result<pb::CheckpointStatus> CreateCheckpoint(const std::string& name, bool whole);
  Result<pb::CheckpointStatus> GetCheckpoint(uint64_t id);
  Result<JobId> RestoreJob(const std::string& checkpoint);

  // [keys.size(), dim]
  Result<Floats> Pull(TableId table, KeyVector keys, pb::WireSpec::Codec codec = pb::WireSpec::FP32);
  Result<std::vector<Floats>> Pull(std::vector<TableKeys> tables, PullOptions options = {});
  // Applied exactly once. An identity that is not set is one of this session's own.
  Status Push(std::vector<TableGradients> tables, PushOptions options = {});
  // Every row of a table, partition by partition, `max_rows` at a time. Rows that change meanwhile may be old or new.
  Status ScanAll(TableId table, uint32_t max_rows, const RowSink& sink);

  const pb::ClusterConfig& config() const { return client_.config(); }
  // Of the scheduler that was asked last.
  const std::string& scheduler_address() const { return schedulers_.current(); }

 private:
  BlockingClient(ZmqContext& context, std::string scheduler_address, BlockingClientOptions options);
  Status TakeConfig(const pb::ClusterConfig& config);
  Failure NoSuchAnswer(const char* than) const;
  // One turn: waits for messages, hands them on, ticks. The scheduler's answers are left in `answers_`.
  Status Turn(Duration at_most);
  Status RefreshConfig(TimePoint now);
  Status SendToScheduler(const Message& request);
  void SendOut();
  Result<Completion> WaitFor(OperationId operation);
  Status Scan(TableId table, PartitionId partition, uint32_t max_rows, const RowSink& sink);

  const BlockingClientOptions options_;
  SchedulerList schedulers_;
  bool moved_ = false;                      // to another scheduler: what was asked is to be asked there
  bool leaderless_ = false;                 // the scheduler that was asked stands by: ask again soon
  const uint64_t host_;
  Duration silence_{};                      // that the scheduler has asked us to bear
  std::string last_problem_;                // of the transport: bytes that were no message, another version
  SystemClock clock_;
  ZmqTransport transport_;
  PsClient client_;
  Outbox out_;
  PushIdentity session_;                    // seq: the next push's
  uint64_t next_question_ = 1;
  std::vector<Message> answers_;
  TimePoint next_config_{};
  TimePoint asked_at_{};
  uint64_t asked_for_ = 0;                  // the newest generation that it was asked for at once
  std::set<PeerId> connected_;
};

}  // namespace sheaf
