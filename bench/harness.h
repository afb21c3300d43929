// How benchmarks are run and told: each case beside its limit, in turns, so that what else the machine does falls on
// both.
//
// A round measures ours, then the limit, then whatever else is shown beside; one round warms up, then five count. The
// ratio is the median of the rounds' ratios ours / limit; a bar judges it. Thread-safety: none; one per process.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace sheaf::bench {

// One measurement of about a quarter of a second: its figure in the case's unit.
using Sample = std::function<Result<double>()>;

// What the ratio ours / limit must be. Rates are better when higher, times when lower.
struct Bar {
  enum class Kind { kNone, kAtLeast, kAtMost };
  Kind kind = Kind::kNone;
  double ratio = 0;

  static Bar AtLeast(double ratio) { return {Kind::kAtLeast, ratio}; }
  static Bar AtMost(double ratio) { return {Kind::kAtMost, ratio}; }
  bool Holds(double measured) const;
  std::string Text() const;  // ">= 0.85", "<= 1.25", "-"
};

struct Case {
  std::string name;    // "dense push"
  std::string params;  // "256 KiB, w4"
  std::string unit;    // "MB/s"
  Sample ours;
  std::string limit_name;  // "raw ZeroMQ"; empty: there is none
  Sample limit;
  Bar bar;
  // Shown, not judged: the same over raw TCP.
  std::string beside_name = {};
  Sample beside = {};
  // Asked for after the rounds: what else is known of it, in words ("1.9 us of CPU a message").
  std::function<std::string()> remark = {};
};

struct Series {
  double median = 0, min = 0, max = 0;
};
Series SeriesOf(std::vector<double> samples);

struct Row {
  std::string suite, name, params, unit;
  Series ours;
  std::string limit_name;
  std::optional<Series> limit;
  double ratio = 0;  // median of the rounds; 0 without a limit
  Bar bar;
  std::string beside_name;
  std::optional<Series> beside;
  std::string remark;
  bool ok() const { return !limit || bar.Holds(ratio); }
};

// What was measured once.
inline Series One(double value) { return {value, value, value}; }

class Suite {
 public:
  // `only`: part of "NAME PARAMS" that a case must have to be run; empty: all.
  // `ours_only`: limits are left out, and nothing is judged; for a profiler.
  Suite(std::string name, std::string only, int rounds = 5, bool ours_only = false)
      : name_(std::move(name)), only_(std::move(only)), rounds_(rounds), ours_only_(ours_only) {}

  const std::string& name() const { return name_; }
  bool Wanted(const std::string& name, const std::string& params) const;
  // Runs the case's rounds and prints its line. An error of a sample ends it.
  Status Run(const Case& bench_case);
  // A figure that was measured otherwise, to be judged by `ratio`; `name` says of what, `params` how.
  Row Measured(std::string name, std::string params, std::string unit, const Series& ours, std::string limit_name,
             std::optional<Series> limit, double ratio, Bar bar) const;
  void Add(Row row);

  const std::vector<Row>& rows() const { return rows_; }
  bool ok() const;

 private:
  void Print(const Row& row);

  const std::string name_, only_;
  const int rounds_;
  const bool ours_only_;
  bool head_printed_ = false;
  std::vector<Row> rows_;
};

// [{suite, case, params, unit, median, min, max, limit, limit_median, ratio, bar, ok, ...}]
std::string AsJson(const std::vector<Row>& rows);

}  // namespace sheaf::bench
