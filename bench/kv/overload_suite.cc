#include "bench/kv/overload_suite.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "bench/child.h"
#include "bench/kv/sheaf_endpoint.h"
#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf::bench {
namespace {

constexpr uint32_t kTable = 1, kDim = 16;
constexpr size_t kRows = 100'000, kRowsAPush = 16'384;  // 1.1 MiB
constexpr size_t kMemory = size_t{64} << 20;            // --memory_mb
constexpr int kClients[] = {1, 20, 40, 80};
constexpr uint32_t kWindow = 64;
constexpr int kLookEveryMs = 10;

using Counter = std::atomic<uint64_t>;

void DriveForEver(const std::string& announced, uint64_t number, Counter& pushes, const Announce& announce) {
  auto client = SheafClient::Connect(announced, SheafClient::Way::kOfOneHost);
  if (!client) return;
  Random random(number);
  std::vector<HashedKey> keys;
  while (keys.size() < kRowsAPush) keys.push_back(MixKey(random.Below(kRows)));
  std::ranges::sort(keys);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  const auto shared = std::make_shared<const std::vector<HashedKey>>(std::move(keys));
  announce("ready");
  while (true) {
    const auto driven = (*client)->Drive(kWindow, 3600, [&](PsClient& ps, TimePoint now, Outbox& out) {
      ++pushes;  // another one has ended
      PushOptions options;
      options.identity = (*client)->NextIdentity();
      std::vector<TableGradients> tables{{TableId(kTable), shared, std::vector<float>(shared->size() * kDim, 1e-6F)}};
      return ps.Push(std::move(tables), options, now, out);
    });
    if (!driven) return;
  }
}

Status RunClients(int count, double seconds, Suite& suite) {
  const std::string params = StrCat(count, count == 1 ? " client" : " clients");
  if (!suite.Wanted("memory under overload", params)) return {};
  ServerSpec spec;
  spec.tables.push_back(TableOf(kTable, kDim, pb::OptimizerSpec::SGD));
  spec.memory_mb = kMemory >> 20;
  SHEAF_ASSIGN_OR_RETURN(const auto server,
                         Child::Fork("server", [&](const Announce& announce) { ServeSheaf(spec, announce); }));
  void* const page =
      mmap(nullptr, sizeof(Counter), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return Fail(ErrorCode::kResourceExhausted, "no memory to count pushes in");
  auto& pushes = *std::construct_at(static_cast<Counter*>(page));
  const size_t idle = server->ResidentBytes();
  std::vector<std::unique_ptr<Child>> clients;
  for (int i = 0; i < count; ++i) {
    SHEAF_ASSIGN_OR_RETURN(auto client, Child::Fork("client", [&, i](const Announce& announce) {
                             DriveForEver(server->announced(), static_cast<uint64_t>(i), pushes, announce);
                           }));
    clients.push_back(std::move(client));
  }
  size_t most = 0;
  uint64_t before = 0;
  const int looks = static_cast<int>(seconds * 1000) / kLookEveryMs;
  for (int i = 0; i < 2 * looks; ++i) {
    if (i == looks) before = pushes;  // all have begun
    most = std::max(most, server->ResidentBytes());
    poll(nullptr, 0, kLookEveryMs);
  }
  const double rate = static_cast<double>(pushes - before) * kRowsAPush / seconds;
  clients.clear();
  munmap(page, sizeof(Counter));
  const double megabyte = 1 << 20;
  const size_t rows_bytes = kRows * kDim * sizeof(float) * 2;  // with their index, and room to grow
  const size_t push_bytes = kRowsAPush * (sizeof(HashedKey) + kDim * sizeof(float));
  const double may =
      static_cast<double>(idle + kMemory + rows_bytes + static_cast<size_t>(count) * push_bytes) / megabyte;
  Row row = suite.Measured("memory under overload", params, "MiB", One(static_cast<double>(most) / megabyte),
                           "idle, --memory_mb, rows, a push each", One(may), static_cast<double>(most) / megabyte / may,
                           Bar::AtMost(1));
  row.remark = StrCat(FormatFixed(rate / 1e6, 1), " M rows/s");
  suite.Add(std::move(row));
  return {};
}

}  // namespace

Status RunOverload(const OverloadOptions& options, Suite& suite) {
  for (const int count : kClients) SHEAF_RETURN_IF_ERROR(RunClients(count, options.seconds, suite));
  return {};
}

}  // namespace sheaf::bench
