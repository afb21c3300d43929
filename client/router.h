// The placement map as the client uses it: which shard has which keys of a sorted list.
//
// Built from one ClusterConfig and never changed. Thread-safety: a plain value.
// Bytes of the configuration come from a peer: what does not fit makes the map unroutable, never a crash.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "proto/control.pb.h"

namespace sheaf {

// Partitions named by a request, ascending, with the epochs it is routed by.
struct PartitionSet {
  std::vector<uint32_t> ids;
  std::vector<uint64_t> epochs;
  uint64_t placement = 0;   // of a shard's whole set: its signature; of another: 0

  friend bool operator==(const PartitionSet&, const PartitionSet&) = default;
};

struct ShardRoute {
  PeerId peer;
  std::string name;                                 // of its server, for people
  std::string address;
  std::shared_ptr<const PartitionSet> partitions;   // never empty

  bool SamePlacement(const ShardRoute& other) const { return peer == other.peer && *partitions == *other.partitions; }
};

class Router {
 public:
  Router() = default;
  explicit Router(const pb::ClusterConfig& config);

  // Every partition has a shard. If not, obstacle() says why in words.
  bool routable() const { return obstacle_.empty(); }
  const std::string& obstacle() const { return obstacle_; }

  uint32_t partition_count() const { return static_cast<uint32_t>(shard_of_.size()); }
  const std::vector<ShardRoute>& shards() const { return shards_; }   // those with partitions
  uint32_t shard_of(uint32_t partition) const { return shard_of_[partition]; }
  uint64_t epoch_of(uint32_t partition) const { return epoch_of_[partition]; }
  // Of the configuration it was built from.
  uint64_t generation() const { return generation_; }
  // Are these all that their shard has?
  bool IsWhole(const PartitionSet& partitions) const;
  // Are all of these partitions still there, under the same epochs?
  bool StillAt(PeerId peer, const PartitionSet& partitions) const;
  bool SamePlacement(const Router& other) const;

  // 0 if there is no such table (or none that could be used).
  uint32_t TableDim(TableId table) const;

  // Takes the tables of a newer configuration whose partitions cannot be used.
  void TakeTables(const Router& newer) { table_dim_ = newer.table_dim_; }

  // Partition p has keys[bounds[p]] .. keys[bounds[p + 1]); bounds is [partition_count() + 1].
  void FindBounds(std::span<const HashedKey> keys, std::vector<uint32_t>& bounds) const;

 private:
  std::string obstacle_ = "the configuration of the cluster is not known yet";
  uint64_t generation_ = 0;
  std::vector<ShardRoute> shards_;
  std::vector<uint32_t> shard_of_;        // by partition: index in shards_
  std::vector<uint64_t> epoch_of_;
  std::vector<HashedKey> first_key_;      // of each partition
  std::map<uint32_t, uint32_t> table_dim_;
};

}  // namespace sheaf
