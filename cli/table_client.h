// Reads and writes a running cluster's tables, one call at a time: a PsClient with a transport and a clock around it.
//
// Ownership: borrows the context. Thread-safety: none. Shapes: keys [n] hashed, ascending, distinct; rows [n, dim].
// Errors: as PsClient's, and what `interrupted` answers. The configuration is the one given: a cluster whose partitions
// move meanwhile ends in kTimeout.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "client/ps_client.h"
#include "common/net/zmq_transport.h"

namespace sheaf::cli {

class TableClient {
 public:
  using Interrupted = std::function<Status()>;
  static Result<std::unique_ptr<TableClient>> Connect(ZmqContext& context, const pb::ClusterConfig& config, Duration deadline,
                                                      Interrupted interrupted);

  // Floats a row. kNotFound: the cluster has no such table (any more).
  Result<uint32_t> DimOf(TableId table) const;
  // Every row of a table, in key order.
  using RowSink = std::function<Status(HashedKey key, std::span<const float> row)>;
  Status ScanAll(TableId table, const RowSink& sink);
  // The first rows of each partition, until there are `most`; not in key order.
  Result<std::vector<HashedKey>> SomeKeys(TableId table, size_t most);

  using SharedKeys = std::shared_ptr<const std::vector<HashedKey>>;
  Result<std::vector<float>> Pull(TableId table, SharedKeys keys);
  Status Push(TableId table, SharedKeys keys, std::vector<float> gradients);

 private:
  TableClient(ZmqContext& context, const pb::ClusterConfig& config, Duration deadline, Interrupted interrupted);
  // Sends, receives and ticks once; waits a little if nothing happens.
  Status Turn();
  Result<Completion> WaitFor(OperationId operation);
  OperationId StartScan(TableId table, uint32_t partition, std::optional<HashedKey> after, uint32_t max_rows);

  SystemClock clock_;
  const PeerId self_;
  ZmqTransport transport_;
  PsClient client_;
  Outbox out_;
  Interrupted interrupted_;
  PushIdentity next_push_;
};

}  // namespace sheaf::cli
