// The addresses at which a cluster's schedulers may be reached, and the one that is asked now.
//
// With one address it is always that one. With several one of them leads, and the others say who: then that one is
// asked, also if it is not in the list. Who is silent, or stands by and knows of nobody, is left for the next after a
// while. A state machine without I/O: its owner tells what it asks and hears, and connects to current() when that has
// changed; what an earlier one says later is not to be heard.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"

namespace sheaf {

class SchedulerList {
 public:
  // "tcp://a:7070" or "tcp://a:7070,tcp://b:7070".
  explicit SchedulerList(std::string text);
  // kInvalidArgument: an address is empty, or there are too many.
  static Status Check(const std::string& text);

  const std::string& text() const { return text_; }  // for people
  const std::string& current() const { return current_; }
  bool several() const { return addresses_.size() > 1 || current_ != text_; }

  // A question goes to the current one. Silence counts from the first that is not answered.
  void OnAsked() { asked_ = true; }
  // The current one has answered, as one that leads.
  void OnHeard();
  // It has answered that it does not lead, but `leader` does; empty: nobody that it knows of. `term`: rises from leader
  // to leader, and from term to term of the same one.
  void OnNotLeader(const std::string& leader, uint64_t term, TimePoint now);
  // True if current() is another now. Silence does not count over a gap between ticks: then we were stopped.
  bool OnTick(TimePoint now);

 private:
  void GoTo(std::string address, TimePoint now);
  void GoToNext(TimePoint now);

  const std::string text_;
  const std::vector<std::string> addresses_;  // at least one
  size_t index_ = 0;                          // of the one that was asked last, of the list
  std::string current_;
  std::string next_;                          // where to go at next_at_; empty: stay
  TimePoint next_at_;
  std::optional<TimePoint> last_tick_;
  bool asked_ = false;
  std::optional<TimePoint> waiting_since_;    // for an answer
  std::optional<TimePoint> leaderless_since_;  // the current one stands by, and knows of nobody that can be asked
  uint64_t term_ = 0;                         // greatest that was heard of
  std::string silent_;                        // it did not answer: not to be asked again in
  uint64_t silent_term_ = 0;                  // this term (0: not known) or before,
  TimePoint silent_until_;                    // until then
};

}  // namespace sheaf
