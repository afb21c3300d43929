// What turns one configuration of the cluster into a later one, so that a change of one lane among ten thousand does
// not send everything to everybody.
//
// Elements (servers by node, partitions by place, tables by id, rosters by job and pass, their lanes by id) are
// compared whole: an update names those that are new or other, and those that are gone.
// Invariant: Apply(Diff(a, b)) on a gives b, byte for byte. Lists are in ascending order, as the scheduler makes them.
// Thread-safety: pure functions.
#pragma once

#include <string>

#include "common/base/result.h"
#include "proto/control.pb.h"

namespace sheaf {

pb::ConfigUpdate DiffConfig(const pb::ClusterConfig& from, const pb::ClusterConfig& to);
pb::ConfigUpdate WholeConfig(pb::ClusterConfig config);

// `config` as of after the update. kUnavailable: it is a change to another generation than `config`'s, and `config` is
// as it was: ask again, naming the generation that is there. kDataLoss: the bytes are no update.
Status ApplyConfigUpdate(const pb::ConfigUpdate& update, pb::ClusterConfig& config);
Status ApplyConfigUpdate(const std::string& encoded, pb::ClusterConfig& config);

}  // namespace sheaf
