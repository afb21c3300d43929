// Under which name and address others reach a process, where it listens at one that says nothing to them.
#pragma once

#include <string>

namespace sheaf {

// `advertise` if it is given; else `listen`, or this host's name if that is all interfaces (*, 0.0.0.0, ::).
std::string AdvertisedHost(const std::string& listen, const std::string& advertise);
// tcp://HOST:PORT; an IPv6 address stands in brackets.
std::string TcpAddress(const std::string& host, const std::string& port);

}  // namespace sheaf
