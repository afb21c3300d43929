// A simulated network: every transport of a cluster on one queue of events, one seeded generator and one clock.
//
// Same seed and same calls, same trace. Every message is encoded and decoded on its way, as on a real wire. It behaves
// as ZmqTransport does where that matters: a message goes to whoever listens at the *address* its target was connected
// under, and is from the peer named in Connect; an unconnected peer can be answered once it was heard from.
// Thread-safety: none. Ownership: borrows clock and generator; nodes own their SimTransport and must end before the
// network.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/net/transport.h"
#include "common/runtime/clock.h"

namespace sheaf::sim {

// How a link treats messages. Probabilities are per message.
struct LinkFaults {
  Duration min_delay = std::chrono::microseconds(50);
  Duration max_delay = std::chrono::microseconds(200);
  double loss = 0;
  double duplicate = 0;
  double reorder = 0;  // a message that may overtake and be overtaken; the others keep the link's order
  double late = 0;     // one more copy, up to `longest_late` later: its sender may have died and come back meanwhile
  Duration longest_late = std::chrono::seconds(3);
};

// How often the network did what.
struct NetworkCounts {
  uint64_t delivered = 0;
  uint64_t lost = 0;  // by chance, in a cut, or because nobody was there any more
  uint64_t duplicated = 0;
  uint64_t reordered = 0;   // arrived before a message that was sent earlier on the same link
  uint64_t late = 0;        // arrived half a second or more after they were sent
  uint64_t slow = 0;        // went over a link slowed by Slow
  uint64_t posthumous = 0;  // arrived when their sender had ended
  uint64_t unclaimed = 0;   // were for a node that had ended
};

class SimNetwork;

// One node's end. Its destruction is a crash: what is on its way to it is lost, what it sent arrives.
class SimTransport final : public Transport {
 public:
  ~SimTransport() override;
  Status Connect(PeerId peer, const std::string& address) override;
  void Disconnect(PeerId peer) override;
  Status Send(PeerId to, Message message) override;

 private:
  friend class SimNetwork;
  SimTransport(SimNetwork& network, PeerId self, std::string address);
  SimNetwork& network_;
  const PeerId self_;
  const std::string address_;             // where it listens; empty: nowhere
  std::map<PeerId, std::string> routes_;  // by Connect
};

class SimNetwork {
 public:
  using Receiver = std::function<void(PeerId from, Message message)>;

  SimNetwork(ManualClock& clock, Random& random) : clock_(clock), random_(random) {}

  // A node that starts now and listens at `address` (empty: it only connects). `receiver` is called from Step. A node
  // of the same id or address must have ended before.
  std::unique_ptr<SimTransport> Start(PeerId self, const std::string& address, Receiver receiver);

  // Faults of all links, or of messages from one node to another (over those of all links).
  void SetFaults(const LinkFaults& faults) { faults_ = faults; }
  void SetFaults(PeerId from, PeerId to, const LinkFaults& faults) { link_faults_[{from, to}] = faults; }
  // Messages from one node to another are lost from now on; one way only. As many calls of Heal mend it as cut it.
  void Cut(PeerId from, PeerId to) { ++cuts_[{from, to}]; }
  void Heal(PeerId from, PeerId to);
  // Messages from one node to another take so long from now on, until the call with zero.
  void Slow(PeerId from, PeerId to, Duration at_least, Duration at_most);
  // What the node sent last arrives once more, that much from now: whether it still runs or not.
  void Haunt(PeerId from, Duration after);
  // No faults, no cuts, no slow links from now on; the delays of SetFaults stay.
  void HealAll();

  // `action` is called from Step when the clock has moved on by `after`: ticks, faults, crashes.
  void Schedule(Duration after, std::function<void()> action);

  // Moves the clock to the next event and carries it out; false if there is none.
  bool Step();
  // All events until then; the clock ends at `until`.
  void RunUntil(TimePoint until);
  void RunFor(Duration duration) { RunUntil(clock_.Now() + duration); }

  // A hash of everything delivered so far, when and to whom: equal traces, equal fingerprints.
  uint64_t fingerprint() const { return fingerprint_; }
  const NetworkCounts& counts() const { return counts_; }

 private:
  friend class SimTransport;
  struct Node {
    SimTransport* transport;
    Receiver receiver;
    uint64_t start;                               // tells a restarted node from the one before
    std::map<PeerId, PeerId> heard_from;          // who can be answered -> under which name it knows us
    std::deque<std::function<void()>> sent_last;  // arrivals of its last messages
  };
  struct Event {
    TimePoint at;
    uint64_t order;  // events of one instant happen in the order they were scheduled
    std::function<void()> action;
    bool operator>(const Event& other) const { return std::pair(at, order) > std::pair(other.at, other.order); }
  };

  void AddEvent(TimePoint at, std::function<void()> action);
  Status SendFrom(SimTransport& sender, PeerId to, Message message);
  void Transmit(PeerId from, PeerId to, const std::function<void()>& deliver);
  const LinkFaults& FaultsOf(PeerId from, PeerId to) const;
  Node* FindNode(PeerId id);
  Node* FindListener(const std::string& address);
  void Deliver(Node& node, PeerId from, const std::vector<Buffer>& frames);
  void Stop(PeerId self);

  ManualClock& clock_;
  Random& random_;
  std::map<PeerId, Node> nodes_;
  std::map<std::pair<PeerId, PeerId>, LinkFaults> link_faults_;
  std::map<std::pair<PeerId, PeerId>, uint32_t> cuts_;  // by how many
  std::map<std::pair<PeerId, PeerId>, std::pair<Duration, Duration>> slow_;
  std::map<std::pair<PeerId, PeerId>, TimePoint> last_arrival_;   // of messages that keep the link's order
  std::map<std::pair<PeerId, PeerId>, uint64_t> newest_arrived_;  // by the order of sending
  LinkFaults faults_;
  std::vector<Event> events_;  // a heap, the next one in front
  uint64_t next_order_ = 0;
  uint64_t fingerprint_ = 0;
  NetworkCounts counts_;
};

}  // namespace sheaf::sim
