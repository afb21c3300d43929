// Our side of the kv suite: a real shard thread in a process of its own, and a real client driving it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/child.h"
#include "client/ps_client.h"
#include "common/net/zmq_transport.h"

namespace sheaf::bench {

// What the scheduler would say of one server with one shard: `partitions` of it, and the tables.
struct ServerSpec {
  uint32_t partitions = 64;
  std::vector<pb::TableSpec> tables;
  std::string data_dir = {};  // what it does is in a log there, as in that of sheaf-server; empty: in memory only
  std::string backup = {};    // as ServeBackup announced it: has a copy of all; empty: nobody has
  uint64_t memory_limit = 0;  // as the server's flag, and so the next; 0: what a shard has by default
  uint64_t memory_mb = 0;
};
pb::TableSpec TableOf(uint32_t id, uint32_t dim, pb::OptimizerSpec::Kind optimizer);

// Serves until the process is killed; for Child::Fork. Announces the serialised configuration, which names its address;
// it listens at its unix socket, too, as a server does.
void ServeSheaf(const ServerSpec& spec, const Announce& announce);
// A server whose shard has copies only; announces its shard (pb::ShardEndpoint).
void ServeBackup(const Announce& announce);

struct DriveResult {
  uint64_t operations = 0;
  double seconds = 0;
};

class SheafClient {
 public:
  // The way there: as any client on the same host finds it, over a unix socket; or as one elsewhere has to go.
  enum class Way { kOfOneHost, kTcp };
  // `announced`: of ServeSheaf.
  static Result<std::unique_ptr<SheafClient>> Connect(const std::string& announced, Way way,
                                                      ClientOptions options = {});

  // Starts an operation and answers its number; called again whenever one has ended.
  using Start = std::function<OperationId(PsClient& client, TimePoint now, Outbox& out)>;
  // Keeps `window` operations in flight for so long, then waits for the last ones.
  Result<DriveResult> Drive(uint32_t window, double seconds, const Start& start);
  // The same for so many operations, one in flight; answers how long each took, in seconds.
  Result<std::vector<double>> RoundTrips(size_t count, const Start& start);

  // Sent and received so far, all frames.
  uint64_t WireBytes() const { return transport_.counters().bytes_sent + transport_.counters().bytes_received; }
  PushIdentity NextIdentity() { return {session_, session_, next_push_++}; }

 private:
  explicit SheafClient(ClientOptions options);
  void Flush();
  // Waits for messages and takes them. Answers how many operations ended.
  Result<size_t> Turn();

  ZmqContext context_;
  SystemClock clock_;
  ZmqTransport transport_;
  PsClient client_;
  Outbox out_;
  TimePoint next_tick_{};
  const uint64_t session_;
  uint64_t next_push_ = 0;
};

}  // namespace sheaf::bench
