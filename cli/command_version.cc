// sheaf version
#include <cstdio>

#include "cli/commands.h"
#include "common/base/build_info.h"

namespace sheaf::cli {

Command VersionCommand() {
  return {{.name = "sheaf version", .summary = "what this build is"}, [](const Args&) {
            std::printf("%s\n", BuildText().c_str());
            return kExitOk;
          }};
}

}  // namespace sheaf::cli
