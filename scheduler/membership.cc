#include "scheduler/membership.h"

#include <algorithm>

#include "common/base/check.h"

namespace sheaf {
namespace {

// Departed nodes are kept for `sheaf status`, the latest ones only.
constexpr size_t kMaxDeparted = 64;
constexpr Duration kLongPause = std::chrono::seconds(1);  // between two looks

std::string RoleName(pb::Role role) {
  switch (role) {
    case pb::SERVER: return "server";
    case pb::WORKER: return "worker";
    case pb::CLIENT: return "client";
    default: return "node";
  }
}

}  // namespace

Node& Membership::Register(PeerId peer, const pb::Register& registration, TimePoint now) {
  if (Node* known = FindAlive(peer)) {
    known->last_heard = now;
    return *known;
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
  Node& added = nodes_.emplace(node.id, std::move(node)).first->second;
  by_peer_[peer] = &added;
  alive_.at(added.role).push_back(&added);
  return added;
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

std::vector<NodeId> Membership::Expire(TimePoint now, Duration worker_limit, Duration server_limit) {
  if (looked_ && now - *looked_ < kLookEvery) return {};
  const Duration gap = looked_ ? std::max(now - *looked_ - kLongPause, Duration::zero()) : Duration::zero();
  looked_ = now;
  std::vector<Node*> silent;
  for (const std::vector<Node*>& alive : alive_) {
    for (Node* node : alive) {
      node->last_heard = std::min(now, node->last_heard + gap);  // not of what was heard after the pause
      if (now - node->last_heard > (node->role == pb::SERVER ? server_limit : worker_limit)) silent.push_back(node);
    }
  }
  std::ranges::sort(silent, {}, &Node::id);
  std::vector<NodeId> dead;
  for (Node* node : silent) {
    Depart(*node, NodeState::kDead);
    dead.push_back(node->id);
  }
  return dead;
}

void Membership::MarkLeft(NodeId id) {
  Node* node = Find(id);
  SHEAF_CHECK(node != nullptr, "node ", id);
  if (node->alive()) Depart(*node, NodeState::kLeft);
}

void Membership::Depart(Node& node, NodeState state) {
  node.state = state;
  by_peer_.erase(node.peer);
  std::erase(alive_.at(node.role), &node);
  departed_.push_back(node.id);
  ++version_;
}

void Membership::Forget() {
  for (; departed_.size() > kMaxDeparted; departed_.pop_front()) nodes_.erase(departed_.front());
}

}  // namespace sheaf
