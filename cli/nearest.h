// "did you mean": the candidate nearest to what somebody typed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sheaf::cli {

// Edits (insert, delete, replace, swap of neighbours) between two names; case, '-' and '_' do not count.
size_t NameDistance(std::string_view a, std::string_view b);

// Nothing if no candidate is near enough to be meant.
std::optional<std::string> NearestName(std::string_view typed, const std::vector<std::string>& candidates);

// `; did you mean "batch_size"?`, or `; one of: a, b, c` if nothing is near.
std::string Suggestion(std::string_view typed, const std::vector<std::string>& candidates);

}  // namespace sheaf::cli
