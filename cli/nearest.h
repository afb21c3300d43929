// What to add to "no such name".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sheaf::cli {

// `; did you mean "batch_size"?`, or `; one of: a, b, c` if nothing is near.
std::string Suggestion(std::string_view typed, const std::vector<std::string>& candidates);

}  // namespace sheaf::cli
