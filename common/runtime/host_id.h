// Which machine this is, as far as its processes can tell.
#pragma once

#include <cstdint>

namespace sheaf {

// A number for the running system: the clocks of processes that have it in common are one clock. 0: unknown.
uint64_t BootId();

// A number for the running system and the network namespace this process is in: what has it in common reaches each
// other's abstract unix sockets. 0: unknown, and then two that have it have nothing in common. Copies of a virtual
// machine made while it ran have it in common too, although they are apart.
uint64_t HostId();

}  // namespace sheaf
