#include "tests/sim/sim_network.h"

#include <algorithm>
#include <tuple>

#include "common/net/envelope.h"

namespace sheaf::sim {

SimTransport::SimTransport(SimNetwork& network, PeerId self, std::string address)
    : network_(network), self_(self), address_(std::move(address)) {}

SimTransport::~SimTransport() { network_.Stop(self_); }

Status SimTransport::Connect(PeerId peer, const std::string& address) {
  if (!address.starts_with("tcp://") && !address.starts_with("ipc://") && !address.starts_with("sim://")) {
    return Fail(ErrorCode::kInvalidArgument, "connecting to ", address,
                ": an address is tcp://HOST:PORT or ipc://PATH");
  }
  routes_[peer] = address;
  return {};
}

void SimTransport::Disconnect(PeerId peer) { routes_.erase(peer); }

Status SimTransport::Send(PeerId to, Message message) { return network_.SendFrom(*this, to, std::move(message)); }

std::unique_ptr<SimTransport> SimNetwork::Start(PeerId self, const std::string& address, Receiver receiver) {
  SHEAF_CHECK(FindNode(self) == nullptr, "node ", self, " runs already");
  SHEAF_CHECK(address.empty() || FindListener(address) == nullptr, address, " is in use");
  auto transport = std::unique_ptr<SimTransport>(new SimTransport(*this, self, address));
  nodes_.emplace(self, Node{transport.get(), std::move(receiver), next_order_++, {}, {}});
  return transport;
}

void SimNetwork::Stop(PeerId self) {
  nodes_.erase(self);
  // Whoever could answer it cannot any more: its connections are gone.
  for (auto& [id, node] : nodes_) node.heard_from.erase(self);
}

void SimNetwork::HealAll() {
  const auto heal = [](LinkFaults& faults) { faults.loss = faults.duplicate = faults.reorder = faults.late = 0; };
  heal(faults_);
  for (auto& [link, faults] : link_faults_) heal(faults);
  cuts_.clear();
  slow_.clear();
}

void SimNetwork::Heal(PeerId from, PeerId to) {
  const auto cut = cuts_.find({from, to});
  if (cut != cuts_.end() && --cut->second == 0) cuts_.erase(cut);
}

void SimNetwork::Slow(PeerId from, PeerId to, Duration at_least, Duration at_most) {
  if (at_most > Duration::zero()) {
    slow_[{from, to}] = {at_least, at_most};
  } else {
    slow_.erase({from, to});
  }
}

void SimNetwork::Haunt(PeerId from, Duration after) {
  const Node* const node = FindNode(from);
  if (node == nullptr) return;
  for (const auto& arrive : node->sent_last) AddEvent(clock_.Now() + after, arrive);
}

void SimNetwork::Schedule(Duration after, std::function<void()> action) {
  AddEvent(clock_.Now() + std::max(after, Duration::zero()), std::move(action));
}

void SimNetwork::AddEvent(TimePoint at, std::function<void()> action) {
  events_.push_back({at, next_order_++, std::move(action)});
  std::push_heap(events_.begin(), events_.end(), std::greater<>());
}

bool SimNetwork::Step() {
  if (events_.empty()) return false;
  // An event may schedule others: it leaves the queue first.
  std::pop_heap(events_.begin(), events_.end(), std::greater<>());
  const Event event = std::move(events_.back());
  events_.pop_back();
  clock_.Set(std::max(clock_.Now(), event.at));
  event.action();
  return true;
}

void SimNetwork::RunUntil(TimePoint until) {
  while (!events_.empty() && events_.front().at <= until) Step();
  clock_.Set(std::max(clock_.Now(), until));
}

SimNetwork::Node* SimNetwork::FindNode(PeerId id) {
  const auto found = nodes_.find(id);
  return found == nodes_.end() ? nullptr : &found->second;
}

SimNetwork::Node* SimNetwork::FindListener(const std::string& address) {
  for (auto& [id, node] : nodes_) {
    if (node.transport->address_ == address) return &node;
  }
  return nullptr;
}

const LinkFaults& SimNetwork::FaultsOf(PeerId from, PeerId to) const {
  const auto found = link_faults_.find({from, to});
  return found == link_faults_.end() ? faults_ : found->second;
}

Status SimNetwork::SendFrom(SimTransport& sender, PeerId to, Message message) {
  const PeerId from = sender.self_;
  const auto route = sender.routes_.find(to);
  if (route != sender.routes_.end()) {
    SHEAF_ASSIGN_OR_RETURN(auto frames, EncodeMessage(std::move(message)));
    Transmit(from, to, [this, from, to, address = route->second, frames = std::move(frames)] {
      Node* const listener = FindListener(address);
      if (listener == nullptr) {
        ++counts_.lost;
        return;
      }
      // It can answer from now on, as the peer that the sender takes it for.
      if (FindNode(from) != nullptr) listener->heard_from[from] = to;
      Deliver(*listener, from, frames);
    });
    return {};
  }
  const Node* const self = FindNode(from);
  const auto heard = self->heard_from.find(to);
  if (heard == self->heard_from.end()) return Fail(ErrorCode::kNotFound, "peer ", to, " is not connected");
  SHEAF_ASSIGN_OR_RETURN(auto frames, EncodeMessage(std::move(message)));
  const uint64_t start = FindNode(to)->start;
  Transmit(from, to, [this, to, start, known_as = heard->second, frames = std::move(frames)] {
    Node* const receiver = FindNode(to);
    if (receiver == nullptr || receiver->start != start || !receiver->transport->routes_.contains(known_as)) {
      ++counts_.lost;  // it ended or hung up meanwhile
      counts_.unclaimed += receiver == nullptr || receiver->start != start;
      return;
    }
    Deliver(*receiver, known_as, frames);
  });
  return {};
}

// Chance is always drawn in the same number and order, so that turning one fault on does not change the others.
void SimNetwork::Transmit(PeerId from, PeerId to, const std::function<void()>& deliver) {
  constexpr size_t kSentLast = 4;
  LinkFaults faults = FaultsOf(from, to);
  if (const auto slow = slow_.find({from, to}); slow != slow_.end()) {
    std::tie(faults.min_delay, faults.max_delay) = slow->second;
    ++counts_.slow;
  }
  const bool lost = random_.Chance(faults.loss);
  const bool twice = random_.Chance(faults.duplicate);
  const bool reorder = random_.Chance(faults.reorder);
  const auto spread = static_cast<uint64_t>(std::max<int64_t>(0, (faults.max_delay - faults.min_delay).count()));
  const Duration delay = faults.min_delay + Duration(static_cast<int64_t>(random_.Below(spread + 1)));
  const Duration second_delay = faults.min_delay + Duration(static_cast<int64_t>(random_.Below(2 * spread + 1)));
  const bool late = random_.Chance(faults.late);
  const Duration third_delay(
      static_cast<int64_t>(random_.Below(static_cast<uint64_t>(faults.longest_late.count()) + 1)));

  // A cut holds at both ends of the way: what is on its way when the link is cut is lost too.
  const uint64_t number = next_order_++;
  const auto arrive = [this, from, to, number, sent = clock_.Now(), deliver] {
    if (cuts_.contains({from, to})) {
      ++counts_.lost;
      return;
    }
    uint64_t& newest = newest_arrived_[{from, to}];
    counts_.reordered += number < newest;
    newest = std::max(newest, number);
    counts_.late += clock_.Now() - sent >= Milliseconds(500);
    counts_.posthumous += FindNode(from) == nullptr;
    deliver();
  };
  std::deque<std::function<void()>>& sent_last = FindNode(from)->sent_last;
  sent_last.push_back(arrive);
  if (sent_last.size() > kSentLast) sent_last.pop_front();
  if (lost || cuts_.contains({from, to})) {
    ++counts_.lost;
  } else {
    TimePoint arrival = clock_.Now() + delay;
    if (!reorder) {
      TimePoint& last = last_arrival_[{from, to}];
      arrival = last = std::max(arrival, last);
    }
    AddEvent(arrival, arrive);
  }
  if (twice) AddEvent(clock_.Now() + second_delay, arrive);
  if (late) AddEvent(clock_.Now() + third_delay, arrive);
  counts_.duplicated += twice + late;
}

void SimNetwork::Deliver(Node& node, PeerId from, const std::vector<Buffer>& frames) {
  // Frames of their own, aligned as a transport's are: a receiver must not see the sender's memory.
  std::vector<Buffer> copies;
  uint64_t hash = MixPair(fingerprint_, MixPair(node.transport->self_.value, from.value));
  hash = MixPair(hash, static_cast<uint64_t>(clock_.Now().time_since_epoch().count()));
  for (const Buffer& frame : frames) {
    std::vector<uint64_t> words((frame.size() + 7) / 8);
    if (!frame.empty()) std::memcpy(words.data(), frame.data(), frame.size());
    for (const uint64_t word : words) hash = MixPair(hash, word);
    copies.push_back(Buffer::FromVector(std::move(words)).Slice(0, frame.size()));
  }
  Result<Message> message = DecodeMessage(copies);
  SHEAF_CHECK(message.has_value(), message.error().message);
  fingerprint_ = hash;
  ++counts_.delivered;
  // A copy: the node may end, and its receiver with it, while it is called.
  const Receiver receiver = node.receiver;
  receiver(from, std::move(message).value());
}

}  // namespace sheaf::sim
