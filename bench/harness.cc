#include "bench/harness.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <nlohmann/json.hpp>

#include "common/base/strings.h"

namespace sheaf::bench {
namespace {

// Three significant digits or so.
std::string Figure(double value) {
  const double size = value < 0 ? -value : value;
  return FormatFixed(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

std::string Text(const Series& series) {
  return StrCat(Figure(series.median), " (", Figure(series.min), "-", Figure(series.max), ")");
}

}  // namespace

bool Bar::Holds(double measured) const {
  switch (kind) {
    case Kind::kAtLeast:
      return measured >= ratio;
    case Kind::kAtMost:
      return measured <= ratio;
    case Kind::kNone:
      break;
  }
  return true;
}

std::string Bar::Text() const {
  switch (kind) {
    case Kind::kAtLeast:
      return StrCat(">= ", FormatFixed(ratio, 2));
    case Kind::kAtMost:
      return StrCat("<= ", FormatFixed(ratio, 2));
    case Kind::kNone:
      break;
  }
  return "-";
}

Series SeriesOf(std::vector<double> samples) {
  std::ranges::sort(samples);
  const size_t n = samples.size();
  if (n == 0) return {};
  const double median = n % 2 == 1 ? samples[n / 2] : (samples[n / 2 - 1] + samples[n / 2]) / 2;
  return {median, samples.front(), samples.back()};
}

bool Suite::Wanted(const std::string& name, const std::string& params) const {
  return only_.empty() || StrCat(name, " ", params).find(only_) != std::string::npos;
}

Status Suite::Run(const Case& given) {
  if (!Wanted(given.name, given.params)) return {};
  Case bench_case = given;
  if (ours_only_) bench_case.limit = bench_case.beside = nullptr;
  std::vector<double> ours, limit, beside, ratios;
  for (int round = -1; round < rounds_; ++round) {  // the first warms up
    double mine = 0, other = 0;
    SHEAF_ASSIGN_OR_RETURN(mine, bench_case.ours());
    if (bench_case.limit) {
      SHEAF_ASSIGN_OR_RETURN(other, bench_case.limit());
    }
    double third = 0;
    if (bench_case.beside) {
      SHEAF_ASSIGN_OR_RETURN(third, bench_case.beside());
    }
    if (round < 0) continue;
    ours.push_back(mine);
    if (bench_case.limit) {
      limit.push_back(other);
      ratios.push_back(mine / other);
    }
    if (bench_case.beside) beside.push_back(third);
  }
  Row row{.suite = name_,
          .name = bench_case.name,
          .params = bench_case.params,
          .unit = bench_case.unit,
          .ours = SeriesOf(ours),
          .limit_name = bench_case.limit_name,
          .limit = std::nullopt,
          .ratio = 0,
          .bar = bench_case.bar,
          .beside_name = bench_case.beside_name,
          .beside = std::nullopt,
          .remark = {}};
  if (bench_case.limit) {
    row.limit = SeriesOf(limit);
    row.ratio = SeriesOf(ratios).median;
  }
  if (bench_case.beside) row.beside = SeriesOf(beside);
  if (bench_case.remark) row.remark = bench_case.remark();
  Add(std::move(row));
  return {};
}

Row Suite::Measured(std::string name, std::string params, std::string unit, const Series& ours, std::string limit_name,
                  std::optional<Series> limit, double ratio, Bar bar) const {
  Row row;
  row.suite = name_;
  row.name = std::move(name);
  row.params = std::move(params);
  row.unit = std::move(unit);
  row.ours = ours;
  row.limit_name = std::move(limit_name);
  row.limit = limit;
  row.ratio = ratio;
  row.bar = bar;
  return row;
}

void Suite::Add(Row row) {
  Print(row);
  rows_.push_back(std::move(row));
}

bool Suite::ok() const { return std::ranges::all_of(rows_, &Row::ok); }

void Suite::Print(const Row& row) {
  const char* const form = "%-22s %-28s %-9s %24s %24s %7s %8s %-5s %s\n";
  if (!head_printed_) {
    std::printf(form, "case", "params", "unit", "ours: median (min-max)", "limit: median (min-max)", "ratio", "bar", "",
                "limit; beside; remark");
    head_printed_ = true;
  }
  std::string note = row.limit_name;
  if (row.beside) note += StrCat("; ", row.beside_name, " ", Figure(row.beside->median));
  if (!row.remark.empty()) note += (note.empty() ? "" : "; ") + row.remark;
  const bool judged = row.limit && row.bar.kind != Bar::Kind::kNone;
  std::printf(form, row.name.c_str(), row.params.c_str(), row.unit.c_str(), Text(row.ours).c_str(),
              row.limit ? Text(*row.limit).c_str() : "-", row.limit ? FormatFixed(row.ratio, 2).c_str() : "-",
              row.bar.Text().c_str(), judged ? (row.ok() ? "ok" : "UNDER") : "", note.c_str());
  std::fflush(stdout);
}

std::string AsJson(const std::vector<Row>& rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    nlohmann::ordered_json out = {{"suite", row.suite}, {"case", row.name},          {"params", row.params},
                                  {"unit", row.unit},   {"median", row.ours.median}, {"min", row.ours.min},
                                  {"max", row.ours.max}};
    out["limit"] = row.limit ? nlohmann::ordered_json(row.limit_name) : nullptr;
    out["limit_median"] = row.limit ? nlohmann::ordered_json(row.limit->median) : nullptr;
    out["ratio"] = row.limit ? nlohmann::ordered_json(row.ratio) : nullptr;
    out["bar"] = row.bar.Text();
    out["ok"] = row.ok();
    if (row.beside) out[row.beside_name] = row.beside->median;
    if (!row.remark.empty()) out["remark"] = row.remark;
    all.push_back(std::move(out));
  }
  return all.dump(2) + "\n";
}

}  // namespace sheaf::bench
