// The state behind PsClient, and its parts: planning.cc, sending.cc (and waiting), answers.cc.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/credit.h"
#include "client/key_list.h"
#include "client/operation.h"
#include "client/ps_client.h"
#include "client/residuals.h"
#include "client/router.h"
#include "common/base/planted_bug.h"

namespace sheaf {

// Before a shard has said how much it takes: many may begin at once.
inline constexpr size_t kFirstCredit = size_t{1} << 20;

// What is known of one shard.
struct Peer {
  Peer(PeerId peer, std::string server_name, std::string server_address, size_t credit_bytes)
      : id(peer),
        name(std::move(server_name)),
        address(std::move(server_address)),
        pushes(std::min(credit_bytes, kFirstCredit)),
        reads(std::min(credit_bytes, kFirstCredit)) {}

  PeerId id;
  std::string name;
  std::string address;
  CreditLine pushes;
  CreditLine reads;
  RememberedLists remembered;
  TimePoint heard{};            // any answer

  CreditLine& LineOf(RequestKind kind) { return kind == RequestKind::kPush ? pushes : reads; }
  std::string Text() const { return name + " (" + address + ")"; }
};

struct PsClient::Impl {
  explicit Impl(ClientOptions client_options) : options(client_options) {}

  // ---- planning.cc: what is sent where
  OperationId Start(std::unique_ptr<Operation> operation, TimePoint now, Outbox& out);
  void TakeConfig(const pb::ClusterConfig& newer);
  // Acts on a configuration taken since the last call: OnConfig itself has no Outbox to send with.
  void RouteAnew(TimePoint now, Outbox& out);
  void RouteAnew(Operation& operation, TimePoint now);
  void Plan(Operation& operation, TimePoint now);          // may end the operation
  Status PlanAll(Operation& operation, TimePoint now);
  Status PrepareTables(Operation& operation);
  void EncodePayload(Operation& operation, OperationTable& table);
  void PlanPull(Operation& operation, TimePoint now);
  Status PlanPush(Operation& operation, TimePoint now);
  void PlanScan(Operation& operation, TimePoint now);
  void PlanEmptyRead(Operation& operation, size_t shard, TimePoint now);
  void PlanReads(Operation& operation, size_t shard, std::vector<BlockPlan> blocks, TimePoint now);
  // `pause`: before the first sending.
  Status PlanGroup(Operation& operation, PeerId peer, std::shared_ptr<const PartitionSet> partitions,
                   std::vector<BlockPlan> blocks, TimePoint now, Duration pause);
  void PlanPullAnew(Operation& operation, const std::vector<uint64_t>& displaced, TimePoint now);
  // Of what is sent to the router's shard of this index: all that it has, which is named at once, unless there are
  // fewer keys than that.
  std::shared_ptr<const PartitionSet> PartitionsOf(const Operation& operation, size_t shard,
                                                   const std::vector<BlockPlan>& blocks) const;
  // The partitions that the blocks have keys in.
  std::shared_ptr<const PartitionSet> TouchedOf(const Operation& operation, const std::vector<BlockPlan>& blocks) const;
  Request& AddRequest(Operation& operation, RequestKind kind, PeerId peer,
                      std::shared_ptr<const PartitionSet> partitions, RequestPlan plan, TimePoint now);
  std::vector<size_t> RowBytes(const Operation& operation) const;

  // ---- sending.cc: when it is sent
  void Pump(TimePoint now, Outbox& out);        // sends what credit allows
  void SendRequest(Request& request, TimePoint now, Outbox& out);
  Message BuildMessage(Request& request);
  void MarkToPump(PeerId peer);
  pb::WireSpec::Codec CodecSent(const Request& request) const;       // in the request's blocks
  pb::WireSpec::Codec CodecAnswered(const Request& request) const;   // of the values that come back
  // `whole`: the request names all partitions of its shard at once.
  void FillBlocks(Request& request, bool whole, google::protobuf::RepeatedPtrField<pb::Block>& blocks,
                  Message& message);
  void ReleaseCredit(Request& request);
  void Tick(TimePoint now, Outbox& out);
  // For how long nothing was heard that this request waits for.
  Duration Silence(const Request& request, TimePoint now) const;
  void EndOverdue(Request& request, TimePoint now);
  std::string RequestText(const Request& request) const;
  std::string WaitingFor(TimePoint now, Duration at_least) const;

  // ---- answers.cc: what came back
  void Answer(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void AnswerRefusal(Request& request, const pb::Refusal& refusal, TimePoint now, Outbox& out);
  void AnswerPull(Request& request, const Message& message);
  void AnswerPush(Request& request, const Message& message, TimePoint now);
  void AnswerScan(Request& request, const Message& message);
  void AcknowledgeGroup(Operation& operation, uint32_t group_number, bool duplicate, bool have_values, TimePoint now);
  Failure Malformed(const Request& request, const std::string& what) const;
  void NoteLsns(const Request& request, const google::protobuf::RepeatedField<uint64_t>& lsns);
  void NoteRemembered(Request& request);
  void Erase(Request& request);                 // ended; gives its credit back
  void FinishIfDone(Operation& operation);
  void End(Operation& operation, Status status);
  void Drop(Operation& operation);

  const ClientOptions options;
  pb::ClusterConfig config;
  Router router;
  bool route_anew = false;                      // a configuration came that requests have not been held against
  uint64_t wanted_generation = 0;
  std::string obstacle;                         // why the latest configuration cannot be routed by; empty: it can

  PartCache parts;
  Residuals residuals;
  struct SeenLsn {
    uint64_t lsn = 0;
    PeerId by;
  };
  std::vector<SeenLsn> seen;                    // by partition: the greatest an answer named
  std::map<PeerId, Peer> peers;
  std::map<OperationId, std::unique_ptr<Operation>> operations;
  std::map<uint64_t, Request> requests;         // by number; numbers rise, so the first is the oldest
  std::vector<PeerId> to_pump;                  // whose credit or queue has changed
  std::optional<TimePoint> last_tick;
  OperationId next_operation = 1;
  uint64_t next_request = 1;
  uint64_t next_attempt = 1;

  std::vector<Completion> completions;
  std::vector<ScanResult> scans;
};

}  // namespace sheaf
