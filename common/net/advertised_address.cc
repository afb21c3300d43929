#include "common/net/advertised_address.h"

#include "common/net/member_info.h"

namespace sheaf {

std::string AdvertisedHost(const std::string& listen, const std::string& advertise) {
  if (!advertise.empty()) return advertise;
  const bool all = listen == "*" || listen == "0.0.0.0" || listen == "::" || listen == "[::]";
  return all ? HostName() : listen;
}

std::string TcpAddress(const std::string& host, const std::string& port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return "tcp://" + (bare_ipv6 ? "[" + host + "]" : host) + ":" + port;
}

}  // namespace sheaf
