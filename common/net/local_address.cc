#include "common/net/local_address.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

namespace sheaf {

std::string LocalAddress(PeerId shard) {
  char name[32];
  std::snprintf(name, sizeof(name), "ipc://@sheaf-%016llx", static_cast<unsigned long long>(shard.value));
  return name;
}

bool SomebodyListensAt(const std::string& address) {
  constexpr std::string_view kScheme = "ipc://";
  sockaddr_un name{};
  if (!address.starts_with(kScheme) || address.size() - kScheme.size() >= sizeof(name.sun_path)) return false;
  const std::string_view path = std::string_view(address).substr(kScheme.size());
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  socklen_t size = sizeof(name);
  if (path.starts_with('@')) {
    name.sun_path[0] = '\0';
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());  // zeros behind would be of the name
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  const bool connected = connect(fd, reinterpret_cast<const sockaddr*>(&name), size) == 0 || errno == EAGAIN;
  close(fd);
  return connected;
}

std::string AddressToReach(const pb::ShardEndpoint& shard, uint64_t host) {
  if (host == 0 || shard.host() != host) return shard.address();
  const std::string local = LocalAddress(PeerId(shard.peer()));
  return SomebodyListensAt(local) ? local : shard.address();
}

}  // namespace sheaf
