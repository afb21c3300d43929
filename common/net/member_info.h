// Who asks to be a member of a cluster.
#pragma once

#include <string>
#include <vector>

#include "common/base/build_info.h"
#include "common/base/ids.h"
#include "proto/control.pb.h"

namespace sheaf {

struct MemberInfo {
  pb::Role role = pb::ROLE_UNKNOWN;
  PeerId self;
  std::string host{};
  uint32_t pid = 0;
  std::string build{};
  uint32_t wire_version = kWireVersion;
  std::vector<pb::ShardEndpoint> shards{};   // servers
  uint64_t store = 0;                        // servers: pb::Register.store,
  uint64_t store_start = 0;                  // and .store_start
  std::string damaged{};                     // and .damaged
};

// Host, process number and build of the running process: for shells.
MemberInfo ThisProcess(pb::Role role, PeerId self);
// "localhost" if the system has no name.
std::string HostName();

}  // namespace sheaf
