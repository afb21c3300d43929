#include "scheduler/membership.h"

#include <algorithm>

#include "common/base/check.h"

namespace sheaf {
namespace {

// Departed nodes are kept for `sheaf status`, the latest ones only.
constexpr size_t kMaxDeparted = 64;
constexpr Duration kLongPause = Milliseconds(300);  // between two looks
constexpr Duration kDeafAtMost = std::chrono::seconds(30);  // others end themselves when we are silent for so long

std::string RoleName(pb::Role role) {
  switch (role) {
    case pb::SERVER: return "server";
    case pb::WORKER: return "worker";
    case pb::CLIENT: return "client";
    default: return "node";
  }
}

}  // namespace

void Membership::Restore(const std::vector<pb::NodeRecord>& saved, const pb::CountersRecord& counters, TimePoint now) {
  for (const pb::NodeRecord& record : saved) {
    Node node;
    node.id = NodeId(record.node());
    node.name = record.name();
    node.registration = record.registration();
    node.role = node.registration.role();
    node.peer = PeerId(record.peer());
    node.state = !record.gone() ? NodeState::kAlive : record.left() ? NodeState::kLeft : NodeState::kDead;
    node.last_heard = node.gone_at = now;
    node.given_up = record.given_up();
    node.change = record.change();
    node.returning = node.alive() && node.role == pb::WORKER;
    Node& added = nodes_.emplace(node.id, std::move(node)).first->second;
    if (added.registration.store() != 0) by_store_[added.registration.store()] = added.id;
    if (added.alive()) {
      by_peer_[added.peer] = &added;
      alive_.at(added.role).push_back(&added);
    } else {
      departed_.push_back(added.id);
      if (added.registration.store() != 0) gone_stores_.push_back(&added);
    }
  }
  heard_ = now;  // had they spoken before, we could not have heard it
  next_id_ = std::max(1U, counters.next_node());
  next_name_[pb::SERVER] = counters.next_server();
  next_name_[pb::WORKER] = counters.next_worker();
  ++version_;
}

pb::NodeRecord Membership::Describe(const Node& node) {
  pb::NodeRecord record;
  record.set_node(node.id.value);
  record.set_name(node.name);
  record.set_peer(node.peer.value);
  *record.mutable_registration() = node.registration;
  if (!node.alive()) record.set_gone(true);
  if (node.state == NodeState::kLeft) record.set_left(true);
  if (node.given_up) record.set_given_up(true);
  if (node.change != pb::ChangeNode::UNCHANGED) record.set_change(node.change);
  return record;
}

void Membership::CountersTo(pb::CountersRecord& counters) const {
  const auto next_of = [this](pb::Role role) {
    const auto known = next_name_.find(role);
    return known == next_name_.end() ? 0 : known->second;
  };
  counters.set_next_node(next_id_);
  counters.set_next_server(next_of(pb::SERVER));
  counters.set_next_worker(next_of(pb::WORKER));
}

void Membership::GiveUp(NodeId awaited) {
  nodes_.at(awaited).given_up = true;
  changed_.insert(awaited);
}

void Membership::SetChange(NodeId id, pb::ChangeNode::Change change) {
  nodes_.at(id).change = change;
  changed_.insert(id);
}

Node& Membership::Register(PeerId peer, const pb::Register& registration, TimePoint now) {
  if (Node* known = FindAlive(peer)) {
    known->last_heard = now;
    return *known;
  }
  if (const auto store = by_store_.find(registration.store()); store != by_store_.end()) {
    Node& node = nodes_.at(store->second);
    Revive(node, peer, registration, now);
    return node;
  }
  Forget();
  Node node;
  node.id = NodeId(next_id_++);
  node.role = registration.role();
  node.name = RoleName(node.role) + "-" + std::to_string(next_name_[node.role]++);
  node.peer = peer;
  node.last_heard = now;
  node.registration = registration;
  ++version_;
  changed_.insert(node.id);
  Node& added = nodes_.emplace(node.id, std::move(node)).first->second;
  by_peer_[peer] = &added;
  alive_.at(added.role).push_back(&added);
  if (added.role == pb::SERVER && registration.store() != 0) by_store_[registration.store()] = added.id;
  return added;
}

// Another process with the same store: the one before it has ended, whether or not we have noticed.
void Membership::Revive(Node& node, PeerId peer, const pb::Register& registration, TimePoint now) {
  if (node.alive()) {
    by_peer_.erase(node.peer);
  } else {
    std::erase(departed_, node.id);
    std::erase(gone_stores_, &node);
    std::vector<Node*>& alive = alive_.at(node.role);
    alive.insert(std::ranges::upper_bound(alive, node.id, {}, &Node::id), &node);
    if (node.state == NodeState::kLeft) node.change = pb::ChangeNode::UNCHANGED;  // who starts it again wants it
    node.state = NodeState::kAlive;
  }
  node.given_up = false;
  node.disconnected_at.reset();
  node.peer = peer;
  node.last_heard = now;
  node.registration = registration;
  node.server_report.Clear();
  node.sent_generation = node.sent_since = node.taken_generation = 0;
  by_peer_[peer] = &node;
  ++version_;
  changed_.insert(node.id);
}

bool Membership::IsSuperseded(PeerId peer, const pb::Register& registration) const {
  const Node* const holder = registration.store() == 0 ? nullptr : FindStore(registration.store());
  return holder != nullptr && holder->peer != peer &&
         registration.store_start() <= holder->registration.store_start();
}

const Node* Membership::FindStore(uint64_t store) const {
  const auto it = by_store_.find(store);
  return it == by_store_.end() ? nullptr : &nodes_.at(it->second);
}

std::vector<const Node*> Membership::Awaited() const {
  std::vector<const Node*> awaited;
  std::ranges::copy_if(gone_stores_, std::back_inserter(awaited), &Node::awaited);
  return awaited;
}

Node* Membership::FindAlive(PeerId peer) {
  const auto it = by_peer_.find(peer);
  return it == by_peer_.end() ? nullptr : it->second;
}

Node* Membership::Find(NodeId id) {
  const auto it = nodes_.find(id);
  return it == nodes_.end() ? nullptr : &it->second;
}

const Node* Membership::Find(NodeId id) const {
  const auto it = nodes_.find(id);
  return it == nodes_.end() ? nullptr : &it->second;
}

void Membership::Expire(TimePoint now, Duration least, Duration deaf_after,
                        const std::function<Duration(const Node&)>& limit_of,
                        const std::function<void(const Node&)>& gone) {
  if (looked_ && now - *looked_ < kLookEvery) return;
  const Duration since = looked_ ? now - *looked_ : Duration::zero();
  looked_ = now;
  // Also if their connections have ended: those of somebody out of earshot do, after a while. If all have died there is
  // nobody who could stand in for them anyway.
  const size_t alive_now = CountAlive(pb::SERVER) + CountAlive(pb::WORKER);
  const bool deaf = alive_now > 1 && heard_ && now - *heard_ > deaf_after;
  deaf_for_ = deaf ? deaf_for_ + since : Duration::zero();
  const Duration gap =
      deaf && deaf_for_ <= kDeafAtMost ? since : std::max(since - kLongPause, Duration::zero());
  for (const Node* node : gone_stores_) nodes_.at(node->id).gone_at += gap;  // nor could those come back
  const auto is_silent = [&](const Node& node) {
    const Duration silent_for = now - node.last_heard;
    return silent_for > least && silent_for > limit_of(node);
  };
  std::vector<Node*> silent;
  for (const std::vector<Node*>& alive : alive_) {
    for (Node* node : alive) {
      node->last_heard = std::min(now, node->last_heard + gap);  // not of what was heard after the pause
      if (is_silent(*node)) silent.push_back(node);
    }
  }
  std::ranges::sort(silent, {}, &Node::id);
  for (Node* node : silent) {
    if (!is_silent(*node)) continue;  // the last of some may be waited for longer
    Depart(*node, NodeState::kDead, now);
    gone(*node);
  }
}

void Membership::MarkLeft(NodeId id, TimePoint now) {
  Node* node = Find(id);
  SHEAF_CHECK(node != nullptr, "node ", id);
  if (node->alive()) Depart(*node, NodeState::kLeft, now);
}

void Membership::Depart(Node& node, NodeState state, TimePoint now) {
  node.state = state;
  node.gone_at = now;
  by_peer_.erase(node.peer);
  std::erase(alive_.at(node.role), &node);
  departed_.push_back(node.id);
  if (node.registration.store() != 0) gone_stores_.push_back(&node);
  ++version_;
  changed_.insert(node.id);
}

void Membership::Forget() {
  for (size_t looked = departed_.size(); departed_.size() > kMaxDeparted && looked > 0; --looked) {
    const NodeId oldest = departed_.front();
    departed_.pop_front();
    const Node& node = nodes_.at(oldest);
    if (node.awaited()) {
      departed_.push_back(oldest);
      continue;
    }
    by_store_.erase(node.registration.store());
    std::erase(gone_stores_, &node);
    changed_.insert(oldest);
    nodes_.erase(oldest);
  }
}

}  // namespace sheaf
