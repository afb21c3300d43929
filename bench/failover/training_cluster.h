// A cluster of real processes that trains without an end (sheaf run), and a client of it. Thread-safety: none.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/runtime/temp_folder.h"
#include "client/blocking_client.h"
#include "common/runtime/process.h"

namespace sheaf::bench {

struct TrainingClusterOptions {
  int servers = 2;
  int replicas = 2;                                   // copies of each partition, in memory
  std::string model = "model { loss: LOGISTIC }";     // of the job file
  bool checkpoints = false;                           // it has a folder for them
};

class TrainingCluster {
 public:
  // Two workers; answers when training has begun.
  Status Start(const TrainingClusterOptions& options);
  // Another server, which is not of sheaf run. It lives as long as we.
  Status AddServer();

  BlockingClient& client() { return *client_; }
  TableId table() const { return table_; }             // the weights
  std::string checkpoint_dir() const { return folder_.path() + "/checkpoints"; }
  const SystemClock& clock() const { return clock_; }
  // Zeros to one row of each of these partitions, in one push.
  Status Push(const std::vector<uint32_t>& partitions);
  Result<pb::NodeStatus> FindServer(const std::string& name);
  // As sheaf node does it.
  Status ChangeNode(const std::string& name, pb::ChangeNode::Change change);
  // Until so many servers are there, each partition has its copy, and nothing moves.
  Status Settle(int servers);
  // A pause between two looks at something; an error if the cluster has ended, or it is later than `end`.
  Status Wait(TimePoint end, const char* what);

 private:
  std::string Said() const;

  const TempFolder folder_;
  const SystemClock clock_{};
  ZmqContext context_;
  std::string address_;
  std::unique_ptr<ChildProcess> run_;
  std::vector<std::unique_ptr<ChildProcess>> added_;
  std::unique_ptr<BlockingClient> client_;
  TableId table_;
};

// The value that a share of them does not exceed.
double Quantile(std::vector<double> values, double share);

}  // namespace sheaf::bench
