// Unix sockets between processes of one host, where a message takes a shorter way through the kernel than over TCP.
//
// Besides its address a shard may listen at an abstract unix socket that is named by its peer id. Abstract names belong
// to a network namespace and end with the process that holds them, however it ends: no file is left that somebody
// would have to remove, and containers that share a network need no folder in common.
// Thread-safety: functions without state.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/ids.h"
#include "proto/control.pb.h"

namespace sheaf {

// ipc://@sheaf-00c0ffee00c0ffee: where this shard listens for processes of its own host, if it does.
std::string LocalAddress(PeerId shard);

// Whether a unix socket (ipc://PATH, ipc://@NAME) takes connections right now. Never waits; false for other addresses.
bool SomebodyListensAt(const std::string& address);

// Where a process of this host (its HostId()) is to connect to reach the shard: at the shard's unix socket if the shard
// says that it has one on this host and it takes a connection, else over TCP. It is tried, as hosts may have an id in
// common by mistake and sandboxes may cut what the namespace allows; then nothing would ever be answered.
std::string AddressToReach(const pb::ShardEndpoint& shard, uint64_t host);

}  // namespace sheaf
