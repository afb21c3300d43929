#include "common/runtime/file_limit.h"

#include <sys/resource.h>

namespace sheaf {

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;  // then it stays as it is, and whoever needs more says so
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace sheaf
