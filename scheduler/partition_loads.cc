#include "scheduler/partition_loads.h"

#include <algorithm>
#include <cmath>

namespace sheaf {
namespace {

constexpr double kRemembers = 10;  // seconds
// Of a partition's weight, what it has for being one at all.
constexpr double kFixed = 0.05;
// Less asks for no decision: a job that has just begun, or a pause.
constexpr double kWorthKeys = 1000;  // a second, of all partitions
constexpr double kWorthBytes = 1 << 20;

double Weight(double part, double all, size_t count, double worth) {
  return all < worth ? 1 : kFixed + (1 - kFixed) * part * static_cast<double>(count) / all;
}

}  // namespace

void PartitionLoads::Note(NodeId server, const pb::PartitionLoads& reported, TimePoint now) {
  const int count = reported.partition_size();
  if (reported.bytes_size() != count || reported.keys_size() != count) return;
  for (int i = 0; i < count; ++i) {
    if (reported.partition(i) >= partitions_.size()) continue;
    Load& load = partitions_[reported.partition(i)];
    const bool goes_on = load.server == server && reported.keys(i) >= load.keys && now > load.at;
    if (goes_on) {
      const double seconds = ToSeconds(now - load.at);
      const double rate = static_cast<double>(reported.keys(i) - load.keys) / seconds;
      load.rate += (rate - load.rate) * (1 - std::exp(-seconds / kRemembers));
    }
    load.server = server;
    load.bytes = reported.bytes(i);
    load.keys = reported.keys(i);
    load.at = now;
  }
  bytes_ = rate_ = 0;
  for (const Load& load : partitions_) {
    bytes_ += static_cast<double>(load.bytes);
    rate_ += load.rate;
  }
}

double PartitionLoads::OfBytes(uint32_t partition) const {
  return Weight(static_cast<double>(partitions_.at(partition).bytes), bytes_, partitions_.size(), kWorthBytes);
}

double PartitionLoads::OfOnlyCopy(uint32_t partition) const {
  return rate_ < kWorthKeys ? OfBytes(partition) : (OfBytes(partition) + OfKeys(partition)) / 2;
}

double PartitionLoads::OfKeys(uint32_t partition) const {
  return Weight(partitions_.at(partition).rate, rate_, partitions_.size(), kWorthKeys);
}

}  // namespace sheaf
