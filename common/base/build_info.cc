#include "common/base/build_info.h"

#include "common/base/strings.h"

// Both are given to this file alone (common/CMakeLists.txt), so that a new commit compiles one file anew.
#ifndef SHEAF_VERSION
#define SHEAF_VERSION "0.0.0"
#endif
#ifndef SHEAF_COMMIT
#define SHEAF_COMMIT "unknown"
#endif

namespace sheaf {

std::string_view BuildVersion() { return SHEAF_VERSION; }
std::string_view BuildCommit() { return SHEAF_COMMIT; }
std::string BuildText() {
  return StrCat("sheaf ", BuildVersion(), " (commit ", BuildCommit(), ", wire ", kWireVersion, ")");
}

}  // namespace sheaf
