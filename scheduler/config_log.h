// The latest configurations of the cluster, and what takes a member from the one it has to the latest: encoded once for
// all members that need the same.
//
// A member whose configuration is too old for the log gets the whole. Workers get no rosters: they are told their lanes
// with their leases, and in a large cluster a roster is most of a configuration. Owned by SchedulerCore; not
// thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "proto/control.pb.h"

namespace sheaf {

class ConfigLog {
 public:
  explicit ConfigLog(pb::ClusterConfig first) { Add(std::move(first)); }

  // A later one.
  void Add(pb::ClusterConfig config);
  const pb::ClusterConfig& latest() const { return configs_.back(); }
  // An encoded ConfigUpdate from generation `since` (0: none) to the latest.
  const std::string& UpdateFor(pb::Role role, uint64_t since);

 private:
  std::deque<pb::ClusterConfig> configs_;                         // ascending by generation
  std::map<std::pair<pb::Role, uint64_t>, std::string> encoded_;  // to the latest, by role and `since` (0: whole)
};

}  // namespace sheaf
