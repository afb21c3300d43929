#include "common/net/member_info.h"

#include <unistd.h>

namespace sheaf {

MemberInfo ThisProcess(pb::Role role, PeerId self) {
  return {.role = role, .self = self, .host = HostName(), .pid = static_cast<uint32_t>(getpid()), .build = BuildText()};
}

std::string HostName() {
  char name[256] = "";
  if (gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

}  // namespace sheaf
