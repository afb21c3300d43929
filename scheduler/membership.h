// Who is in the cluster: processes by incarnation, when each was last heard, who is dead.
//
// A state machine without I/O, owned by SchedulerCore. A process is known by its incarnation (its random peer id);
// one that was declared dead and speaks again is registered anew, under a new node id, and finds its leases gone. A
// server that keeps a store on disk is known by that: whoever comes with it is the same node, come back.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/runtime/clock.h"
#include "proto/control.pb.h"
#include "proto/meta.pb.h"

namespace sheaf {

enum class NodeState { kAlive, kDead, kLeft };

struct Node {
  NodeId id;
  std::string name;                 // server-0, worker-3: never used twice
  pb::Role role = pb::ROLE_UNKNOWN;
  PeerId peer;                      // where to send: the incarnation
  NodeState state = NodeState::kAlive;
  TimePoint last_heard;
  std::optional<TimePoint> disconnected_at;  // its latest connection but for those it has made since
  pb::Register registration;
  pb::ServerReport server_report;   // the latest, of a server
  pb::WorkerReport worker_report;   // the latest, of a worker (without plan and evaluation counts)
  uint32_t partitions = 0;          // of a server: how many it is primary of
  TimePoint gone_at;                // when it departed
  bool given_up = false;            // it was waited for in vain
  pb::ChangeNode::Change change = pb::ChangeNode::UNCHANGED;  // DRAIN or STOP: what was asked for
  bool returning = false;           // a worker of an earlier scheduler, of which we have not heard yet all that it has
  uint64_t sent_generation = 0;     // of a server: the configuration it has, or was sent last
  uint64_t sent_since = 0;          // ... as what has changed since this one
  TimePoint sent_at;
  uint64_t taken_generation = 0;    // of a server: the latest configuration it has said it has
  bool poked = false;               // asked to report since it last did
  uint64_t last_sequence = 0;       // of the latest worker report: overtaken reports are ignored

  bool alive() const { return state == NodeState::kAlive; }
  // It is gone, and what it holds is on its disk: the cluster waits for it to come back.
  bool awaited() const { return !alive() && registration.store() != 0 && partitions > 0 && !given_up; }
};

class Membership {
 public:
  // Who was in when an earlier scheduler saved it: whoever was alive may still be, and counts as heard at `now`.
  void Restore(const std::vector<pb::NodeRecord>& saved, const pb::CountersRecord& counters, TimePoint now);
  static pb::NodeRecord Describe(const Node& node);
  // Worth saving: it is a member, or can come back.
  static bool Lasts(const Node& node) { return node.alive() || node.registration.store() != 0; }
  // Nodes that came, went or changed since the last call; some may be no more.
  std::set<NodeId> TakeChanged() { return std::exchange(changed_, {}); }
  // The numbers that it gives, for the record.
  void CountersTo(pb::CountersRecord& counters) const;

  // The node of this incarnation, new or as it was. A dead incarnation gets a new node, unless it has a known store.
  Node& Register(PeerId peer, const pb::Register& registration, TimePoint now);
  // The live node of an incarnation; nullptr if unknown, dead or gone.
  Node* FindAlive(PeerId peer);
  const Node* FindAlive(PeerId peer) const { return const_cast<Membership*>(this)->FindAlive(peer); }
  Node* Find(NodeId id);
  const Node* Find(NodeId id) const;
  // The server that has this store; nullptr if there was none.
  const Node* FindStore(uint64_t store) const;
  // A later process has the store that this one comes with: it must not take it back.
  bool IsSuperseded(PeerId peer, const pb::Register& registration) const;
  void GiveUp(NodeId awaited);
  void SetChange(NodeId id, pb::ChangeNode::Change change);

  // Somebody of the cluster was heard, whoever it is.
  void NoteHeard(TimePoint now) { heard_ = now; }
  // Marks nodes that were silent for longer than `limit_of` allows, which is never less than `least`, as dead, and
  // tells `gone` of each before it asks about the next. If we have not looked for a while (a stopped process, a machine
  // that slept), that while is forgiven: we could not hear either. So it is, for half a minute at most, when nobody at
  // all is heard for longer than `deaf_after`: it may be us who is cut off. Looks at most once in kLookEvery.
  static constexpr Duration kLookEvery = Milliseconds(100);
  void Expire(TimePoint now, Duration least, Duration deaf_after, const std::function<Duration(const Node&)>& limit_of,
              const std::function<void(const Node&)>& gone);
  void MarkLeft(NodeId id, TimePoint now);
  std::vector<const Node*> Awaited() const;

  const std::vector<Node*>& Alive(pb::Role role) const { return alive_.at(role); }  // in order of id
  size_t CountAlive(pb::Role role) const { return alive_.at(role).size(); }
  // Rises with every node that comes or goes.
  uint64_t version() const { return version_; }
  const std::map<NodeId, Node>& nodes() const { return nodes_; }

 private:
  void Depart(Node& node, NodeState state, TimePoint now);
  void Revive(Node& node, PeerId peer, const pb::Register& registration, TimePoint now);
  void Forget();                                          // keeps the list of the departed bounded

  std::map<NodeId, Node> nodes_;
  std::unordered_map<PeerId, Node*> by_peer_;             // alive ones only
  std::map<uint64_t, NodeId> by_store_;
  uint32_t next_id_ = 1;
  std::map<pb::Role, uint32_t> next_name_;
  std::array<std::vector<Node*>, pb::Role_ARRAYSIZE> alive_;  // by role
  std::deque<NodeId> departed_;                           // in order of going
  std::vector<const Node*> gone_stores_;                  // those of them that have a store
  uint64_t version_ = 0;
  std::set<NodeId> changed_;
  std::optional<TimePoint> looked_;                       // for the dead
  std::optional<TimePoint> heard_;                        // anybody
  Duration deaf_for_{};
};

}  // namespace sheaf
