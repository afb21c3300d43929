#include "scheduler/config_log.h"

#include <algorithm>

#include "common/net/config_update.h"

namespace sheaf {
namespace {

// Members report many times while so many configurations are made, even where lanes come and go all the time.
constexpr size_t kKept = 16;

}  // namespace

void ConfigLog::Add(pb::ClusterConfig config) {
  configs_.push_back(std::move(config));
  if (configs_.size() > kKept) configs_.pop_front();
  encoded_.clear();
}

const std::string& ConfigLog::UpdateFor(pb::Role role, uint64_t since) {
  const auto from = std::find_if(configs_.begin(), configs_.end(),
                                 [since](const pb::ClusterConfig& config) { return config.generation() == since; });
  const auto [entry, is_new] = encoded_.try_emplace({role, from == configs_.end() ? 0 : since});
  if (!is_new) return entry->second;
  pb::ConfigUpdate update = from == configs_.end() ? WholeConfig(latest()) : DiffConfig(*from, latest());
  if (role == pb::WORKER) {
    update.clear_roster();
    update.mutable_config()->clear_roster();
    for (pb::PartitionConfig& partition : *update.mutable_config()->mutable_partition()) {
      partition.clear_replica();
      partition.clear_former();
      partition.clear_taking_over();
      partition.clear_handed_over();
    }
  }
  entry->second = update.SerializeAsString();
  return entry->second;
}

}  // namespace sheaf
