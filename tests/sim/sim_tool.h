// A client that belongs to no job, as a person's tool would: while a job runs it pushes to one of its tables under a
// session of its own, reads back and scans, again and again until all has succeeded.
//
// What it pushes adds 1 to rows that no batch touches, so that the rows say how often each push was applied. It checks
// what it reads: nothing older than what was acknowledged to it, nothing that it has not pushed. The client is the real
// one; its owner feeds it messages and ticks. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "client/ps_client.h"
#include "common/base/random.h"

namespace sheaf::sim {

class SimTool {
 public:
  // Works on the job's table of statistics, or of weights if it has none.
  SimTool(PeerId self, ClientOptions client, uint64_t seed, uint64_t job, pb::ConsistencySpec::Mode mode);

  void OnMessage(PeerId from, Message message, TimePoint now, Outbox& out);
  void OnTick(TimePoint now, Outbox& out);
  std::vector<std::pair<PeerId, std::string>> TakeConnections() { return std::exchange(to_connect_, {}); }

  bool done() const { return begun_ == kOperations && operations_.empty() && scans_.empty(); }
  // Empty, or what it read that must not be.
  const std::string& wrong() const { return wrong_; }
  // How often each of its keys was pushed. When it is done, the rows must say the same.
  const std::map<HashedKey, uint32_t>& pushed() const { return pushed_; }
  uint64_t pushes() const { return next_seq_; }
  std::string WaitingFor(TimePoint now) const { return client_.WaitingFor(now); }

  static bool IsToolKey(HashedKey key, uint32_t partition_count);

 private:
  static constexpr uint32_t kOperations = 40;
  struct Operation {
    enum class Kind { kPull, kPush, kPushPull } kind;
    std::vector<HashedKey> keys;
    uint64_t seq = 0;
    std::vector<uint32_t> at_least;  // per key: acknowledged when it began
  };
  struct Scanned {
    uint32_t partition = 0;
    std::map<HashedKey, uint32_t> at_least;
  };

  const pb::TableSpec* Table() const;
  void TakeConfig(const pb::ClusterConfig& config);
  void Begin(TimePoint now, Outbox& out);
  void BeginScan(TimePoint now, Outbox& out);
  void Send(Operation operation, TimePoint now, Outbox& out);
  void Take(Completion completion, TimePoint now, Outbox& out);
  void Take(const PsClient::ScanResult& scan);
  void CheckValue(HashedKey key, float value, uint32_t at_least, const char* what);

  const uint64_t job_;
  const pb::ConsistencySpec::Mode mode_;
  const bool sliced_;
  PsClient client_;
  Random random_;
  const uint64_t stream_high_, stream_low_;
  uint64_t next_seq_ = 0, request_ = 0;
  uint32_t begun_ = 0;
  TimePoint ask_at_{};  // for the configuration
  std::map<OperationId, Operation> operations_;
  std::map<OperationId, Scanned> scans_;
  std::map<HashedKey, uint32_t> pushed_, acknowledged_;
  std::set<PeerId> connected_;
  std::vector<std::pair<PeerId, std::string>> to_connect_;
  std::string wrong_;
};

}  // namespace sheaf::sim
