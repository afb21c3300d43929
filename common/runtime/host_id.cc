#include "common/runtime/host_id.h"

#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <string>

#include "common/base/random.h"

namespace sheaf {

uint64_t BootId() {
  static const uint64_t id = [] {
    std::string text;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), text);
    return text.empty() ? 0 : static_cast<uint64_t>(std::hash<std::string>()(text));
  }();
  return id;
}

uint64_t HostId() {
  struct stat network_namespace{};
  if (BootId() == 0 || stat("/proc/self/ns/net", &network_namespace) != 0) return 0;
  return MixPair(BootId(), network_namespace.st_ino);
}

}  // namespace sheaf
