#include "cli/trace_shares.h"

#include <algorithm>
#include <numeric>

namespace sheaf::cli {
namespace {

struct Interval {
  TimePoint begin, end;
};

// Disjoint intervals in order, and how long those before each of them are together.
class Busy {
 public:
  explicit Busy(std::vector<Interval> intervals) : intervals_(std::move(intervals)) {
    std::sort(intervals_.begin(), intervals_.end(),
              [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
    before_.push_back(Duration::zero());
    for (const Interval& each : intervals_) before_.push_back(before_.back() + (each.end - each.begin));
  }
  // How long it was busy before `time`.
  Duration Until(TimePoint time) const {
    const auto next =
        std::partition_point(intervals_.begin(), intervals_.end(), [&](const Interval& x) { return x.begin < time; });
    const auto index = static_cast<size_t>(next - intervals_.begin());
    if (index == 0) return Duration::zero();
    return before_[index] - std::max<Duration>(intervals_[index - 1].end - time, Duration::zero());
  }
  bool empty() const { return intervals_.empty(); }
  Interval Whole() const { return {intervals_.front().begin, intervals_.back().end}; }

 private:
  std::vector<Interval> intervals_;
  std::vector<Duration> before_;
};

}  // namespace

double WorkerShares::idle() const { return std::accumulate(wait.begin(), wait.end(), 0.0); }

WorkerShares SharesOf(const std::vector<Span>& spans) {
  WorkerShares shares;
  std::vector<Interval> computes;
  for (const Span& span : spans) {
    if (span.kind == pb::COMPUTE) computes.push_back({span.begin, span.begin + span.length});
  }
  const Busy busy(std::move(computes));
  if (busy.empty()) return shares;
  const Interval whole = busy.Whole();
  shares.total = ToSeconds(whole.end - whole.begin);
  shares.compute = ToSeconds(busy.Until(whole.end));
  for (const Span& span : spans) {
    const TimePoint begin = std::max(span.begin, whole.begin), end = std::min(span.begin + span.length, whole.end);
    if (end <= begin) continue;
    const double seconds = ToSeconds(end - begin);
    const double hidden = ToSeconds(busy.Until(end) - busy.Until(begin));
    if (span.kind == pb::WAIT && span.a < shares.wait.size()) shares.wait[span.a] += seconds;
    if (span.kind == pb::PULL) {
      shares.pulls += seconds;
      shares.pulls_hidden += hidden;
    }
    if (span.kind == pb::PUSH) {
      shares.pushes += seconds;
      shares.pushes_hidden += hidden;
    }
  }
  return shares;
}

}  // namespace sheaf::cli
