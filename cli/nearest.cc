#include "cli/nearest.h"

#include <algorithm>
#include <cctype>

namespace sheaf::cli {
namespace {

std::string Plain(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c != '-' && c != '_') plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return plain;
}

}  // namespace

size_t NameDistance(std::string_view a_name, std::string_view b_name) {
  const std::string a = Plain(a_name.substr(0, 128));
  const std::string b = Plain(b_name.substr(0, 128));
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::optional<std::string> NearestName(std::string_view typed, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  size_t best_distance = std::max<size_t>(1, typed.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = NameDistance(typed, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  if (best || typed.size() < 3) return best;
  // "rate" for "learning_rate": a part of exactly one name.
  for (const std::string& candidate : candidates) {
    if (Plain(candidate).find(Plain(typed)) == std::string::npos) continue;
    if (best) return std::nullopt;
    best = candidate;
  }
  return best;
}

std::string Suggestion(std::string_view typed, const std::vector<std::string>& candidates) {
  if (const auto nearest = NearestName(typed, candidates)) return "; did you mean \"" + *nearest + "\"?";
  std::string text = "; one of:";
  for (size_t i = 0; i < candidates.size(); ++i) text += (i == 0 ? " " : ", ") + candidates[i];
  return text;
}

}  // namespace sheaf::cli
