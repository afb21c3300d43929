// Partitions on their way while there are rows in them, and servers that are to be drained or stopped.
#include <algorithm>

#include "scheduler/scheduler_core.h"

namespace sheaf {
namespace {

constexpr Duration kRebalanceEvery = std::chrono::seconds(1);
constexpr Duration kSilent = Milliseconds(500);

}  // namespace

bool SchedulerCore::TablesHeld() const {
  return std::ranges::any_of(jobs_, [](const auto& job) { return job.second->holds_tables(); });
}

bool SchedulerCore::AllSettled() const {
  return std::ranges::none_of(placement_.homes(), &Placement::Home::taking_over);
}

// Those that partitions are to be on: all that are not to be drained, unless there is no other.
std::vector<NodeId> SchedulerCore::ServersToHold() const {
  std::vector<NodeId> all, staying;
  for (const Node* server : members_.Alive(pb::SERVER)) {
    all.push_back(server->id);
    if (server->change == pb::ChangeNode::UNCHANGED) staying.push_back(server->id);
  }
  return staying.empty() ? all : staying;
}

// A step when there is something new, and now and then, as what is in partitions and how often they are used changes.
void SchedulerCore::Rebalance(TimePoint now) {
  const bool news = servers_changed_ || replicas_changed_;
  if ((!news && now < rebalance_at_) || recovering_ || !TablesHeld()) return;
  // A checkpoint is made of partitions that stay where they are; and what is not restored yet is nowhere.
  const Job* const job = Current();
  if (checkpoints_.ordering() || checkpoints_.holding() || (job != nullptr && job->restoring() != nullptr)) return;
  rebalance_at_ = now + kRebalanceEvery;
  std::vector<Rebalancer::Server> servers;
  for (const Node* server : members_.Alive(pb::SERVER)) {
    servers.push_back({.node = server->id,
                       .draining = server->change != pb::ChangeNode::UNCHANGED,
                       .silent = now - server->last_heard > kSilent,
                       .unfit = server->server_report.disk() != pb::DISK_SOUND});
  }
  const bool changed = rebalancer_.Step(placement_, servers, options_.replicas, now);
  if (rebalancer_.next_wave()) rebalance_at_ = std::min(rebalance_at_, *rebalancer_.next_wave());
  // What was taken back, or let go when somebody else was lost, may have too few.
  if (!placement_.Replicate(ServersToHold(), options_.replicas) && !changed) return;
  replicas_changed_ = true;
  CountPartitions();
  for (std::string& line : rebalancer_.TakeEvents()) events_.push_back(std::move(line));
}

void SchedulerCore::OnChangeNode(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const pb::ChangeNode& change = message.header.change_node();
  const std::vector<Node*>& servers = members_.Alive(pb::SERVER);
  const auto found = std::ranges::find(servers, change.name(), &Node::name);
  if (found == servers.end()) {
    std::string names;
    for (const Node* server : servers) names += (names.empty() ? "" : ", ") + server->name;
    return Refuse(from, message.header.request(), pb::Refusal::NOT_FOUND,
                  "no server " + change.name() + " is in the cluster; there are: " + (names.empty() ? "none" : names),
                  out);
  }
  Node& server = **found;
  const bool goes = change.change() == pb::ChangeNode::DRAIN || change.change() == pb::ChangeNode::STOP;
  const auto others = static_cast<uint32_t>(std::ranges::count_if(servers, [&](const Node* each) {
    return each != &server && each->change == pb::ChangeNode::UNCHANGED;
  }));
  if (goes && others < options_.replicas) {
    return Refuse(from, message.header.request(), pb::Refusal::INVALID,
                  "without " + server.name + " there " +
                      (others == 1 ? "is 1 server" : "are " + std::to_string(others) + " servers") + " for " +
                      std::to_string(options_.replicas) +
                      " copies of each partition (--replicas of the scheduler): add a server first",
                  out);
  }
  const pb::ChangeNode::Change wanted = goes ? change.change() : pb::ChangeNode::UNCHANGED;
  if (server.change != wanted) {
    members_.SetChange(server.id, wanted);
    events_.push_back("node=" + server.name + (!goes                                     ? " is to stay"
                                               : wanted == pb::ChangeNode::DRAIN ? " is to be drained"
                                                                                 : " is to be drained and stopped"));
    servers_changed_ = true;
  }
  Message reply;
  reply.header.set_request(message.header.request());
  *reply.header.mutable_status() = Describe(now);
  out.Send(from, std::move(reply));
}

bool SchedulerCore::MayStop(const Node& server) const {
  return server.change == pb::ChangeNode::STOP &&
         std::ranges::none_of(placement_.homes(), [&](const Placement::Home& home) {
           return home.primary == server.id || home.former == server.id ||
                  std::ranges::find(home.replicas, server.id, &Placement::Replica::node) != home.replicas.end();
         });
}

void SchedulerCore::DescribeMoves(pb::ClusterStatus& status) const {
  std::map<NodeId, uint32_t> copies;
  std::map<NodeId, uint64_t> keys;
  uint32_t moving = 0;
  for (uint32_t p = 0; p < placement_.homes().size(); ++p) {
    const Placement::Home& home = placement_.homes()[p];
    bool moves = home.taking_over;
    for (const Placement::Replica& replica : home.replicas) {
      ++copies[replica.node];
      moves |= !replica.in_sync;
    }
    keys[home.primary] += rebalancer_.loads().KeysPerSecond(p);
    moving += moves ? 1 : 0;
  }
  status.set_replicas(options_.replicas);
  status.set_moving(moving);
  status.set_handed_over(placement_.handed_over());
  for (pb::NodeStatus& node : *status.mutable_node()) {
    if (node.role() != pb::SERVER) continue;
    node.set_copies(copies[NodeId(node.node())]);
    node.set_keys_per_second(keys[NodeId(node.node())]);
    node.set_draining(members_.Find(NodeId(node.node()))->change != pb::ChangeNode::UNCHANGED);
  }
}

}  // namespace sheaf
