#include "client/ps_client.h"

#include "client/client_impl.h"

namespace sheaf {
namespace {

std::unique_ptr<Operation> MakePush(OperationKind kind, std::vector<TableGradients> tables, PushOptions options) {
  auto operation = std::make_unique<Operation>();
  operation->kind = kind;
  operation->push = std::move(options);
  operation->tables.reserve(tables.size());
  for (TableGradients& table : tables) {
    OperationTable& added = operation->tables.emplace_back();
    added.table = table.table;
    added.keys = std::move(table.keys);
    added.gradients = std::move(table.values);
  }
  return operation;
}

}  // namespace

PsClient::PsClient(PeerId /*self*/, ClientOptions options) : impl_(std::make_unique<Impl>(options)) {}
PsClient::~PsClient() = default;

void PsClient::OnConfig(const pb::ClusterConfig& config) { impl_->TakeConfig(config); }
const pb::ClusterConfig& PsClient::config() const { return impl_->config; }
uint64_t PsClient::wanted_generation() const { return impl_->wanted_generation; }
bool PsClient::wants_config() const { return impl_->wanted_generation > impl_->config.generation(); }

OperationId PsClient::Pull(std::vector<TableKeys> tables, PullOptions options, TimePoint now, Outbox& out) {
  auto operation = std::make_unique<Operation>();
  operation->kind = OperationKind::kPull;
  operation->pull = std::move(options);
  operation->tables.reserve(tables.size());
  for (TableKeys& table : tables) {
    OperationTable& added = operation->tables.emplace_back();
    added.table = table.table;
    added.keys = std::move(table.keys);
  }
  return impl_->Start(std::move(operation), now, out);
}

OperationId PsClient::Push(std::vector<TableGradients> tables, PushOptions options, TimePoint now, Outbox& out) {
  return impl_->Start(MakePush(OperationKind::kPush, std::move(tables), std::move(options)), now, out);
}

OperationId PsClient::PushPull(std::vector<TableGradients> tables, PushOptions options, TimePoint now, Outbox& out) {
  return impl_->Start(MakePush(OperationKind::kPushPull, std::move(tables), std::move(options)), now, out);
}

OperationId PsClient::Scan(TableId table, PartitionId partition, std::optional<HashedKey> after, uint32_t max_rows,
                           TimePoint now, Outbox& out) {
  auto operation = std::make_unique<Operation>();
  operation->kind = OperationKind::kScan;
  operation->scan.set_table(table.value);
  operation->scan.set_partition(partition.value);
  operation->scan.set_resume(after.has_value());
  if (after) operation->scan.set_after_key(*after);
  operation->scan.set_max_rows(max_rows);
  return impl_->Start(std::move(operation), now, out);
}

void PsClient::Cancel(OperationId operation) {
  const auto at = impl_->operations.find(operation);
  if (at != impl_->operations.end()) impl_->Drop(*at->second);
}

void PsClient::OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  impl_->Answer(from, message, now, out);
}
void PsClient::OnTick(TimePoint now, Outbox& out) { impl_->Tick(now, out); }

std::vector<Completion> PsClient::TakeCompletions() { return std::exchange(impl_->completions, {}); }
std::vector<PsClient::ScanResult> PsClient::TakeScans() { return std::exchange(impl_->scans, {}); }

std::string PsClient::WaitingFor(TimePoint now, Duration at_least) const { return impl_->WaitingFor(now, at_least); }
size_t PsClient::operations_in_flight() const { return impl_->operations.size(); }

}  // namespace sheaf
