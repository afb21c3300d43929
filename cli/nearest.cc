#include "cli/nearest.h"

#include "common/base/strings.h"

namespace sheaf::cli {

std::string Suggestion(std::string_view typed, const std::vector<std::string>& candidates) {
  if (const std::string nearest = NearestName(typed, candidates); !nearest.empty()) {
    return StrCat("; did you mean \"", nearest, "\"?");
  }
  return "; one of: " + Join(candidates, ", ");
}

}  // namespace sheaf::cli
