#include "bench/kv/kv_suite.h"

#include <algorithm>
#include <chrono>

#include "bench/allocations.h"
#include "bench/kv/raw_wire.h"
#include "bench/kv/sheaf_endpoint.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/runtime/memory.h"

namespace sheaf::bench {
namespace {

constexpr uint32_t kWindow = 4;
constexpr uint32_t kDenseDim = 1024;  // floats of a dense table's chunk: 4 KiB
constexpr size_t kMaxDenseFloats = size_t{1} << 20;
constexpr uint32_t kDenseTable = 1;
constexpr uint32_t kHotTables = 10;     // + dim
constexpr uint32_t kLargeTables = 100;  // + dim
constexpr uint32_t kDims[] = {1, 8, 64};
constexpr uint32_t kLargeDims[] = {1, 16, 64};
constexpr size_t kRequestKeys[] = {1000, 10'000, 100'000};
constexpr double kPairBits = 50;
constexpr size_t kHotCopies = 48;  // of one key list: more than the client remembers parts of

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::vector<HashedKey> Keys(size_t first, size_t count) {
  std::vector<HashedKey> keys(count);
  for (size_t i = 0; i < count; ++i) keys[i] = MixKey(first + i);
  std::ranges::sort(keys);
  return keys;
}

// `count` distinct ones of the keys 0 .. rows - 1.
std::vector<HashedKey> RandomKeys(Random& random, size_t rows, size_t count) {
  std::vector<HashedKey> keys;
  while (keys.size() < count) {
    for (size_t i = keys.size(); i < count; ++i) keys.push_back(MixKey(random.Below(rows)));
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  }
  return keys;
}

KeyVector Shared(std::vector<HashedKey> keys) {
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

class KvSuite {
 public:
  KvSuite(const KvOptions& options, Suite& suite) : options_(options), suite_(suite) {}

  Status Run() {
    SHEAF_RETURN_IF_ERROR(StartServers());
    SHEAF_RETURN_IF_ERROR(Dense());
    SHEAF_RETURN_IF_ERROR(RoundTrips());
    SHEAF_RETURN_IF_ERROR(Hot());
    SHEAF_RETURN_IF_ERROR(Signatures());
    return Large();
  }

 private:
  // The same requests over both wires.
  struct Load {
    RawOp op;
    uint32_t table = 0;
    uint32_t dim = 0;
    const std::vector<KeyVector>* lists = nullptr;  // taken in turn
    size_t request_floats = 0;                      // of a push
    size_t reply_floats = 0;                        // of a pull
  };

  Status StartServers() {
    std::vector<SparseSpec> sparse;
    ServerSpec server;
    server.tables.push_back(TableOf(kDenseTable, kDenseDim, pb::OptimizerSpec::SGD));
    for (const uint32_t dim : kDims) {
      sparse.push_back({kHotTables + dim, 200'000, dim, false});
      server.tables.push_back(TableOf(kHotTables + dim, dim, pb::OptimizerSpec::SGD));
    }
    for (const uint32_t dim : kLargeDims) {
      sparse.push_back({kLargeTables + dim, options_.rows, dim, true});
      server.tables.push_back(TableOf(kLargeTables + dim, dim, pb::OptimizerSpec::ADAGRAD));
    }
    SHEAF_ASSIGN_OR_RETURN(sheaf_server_, Child::Fork("the Sheaf server",
                                                      [&](const Announce& announce) { ServeSheaf(server, announce); }));
    SHEAF_ASSIGN_OR_RETURN(zmq_server_, Child::Fork("the raw ZeroMQ server", [&](const Announce& announce) {
                             RawService service(kMaxDenseFloats, sparse);
                             ServeZmq(service, announce);
                           }));
    SHEAF_ASSIGN_OR_RETURN(tcp_server_, Child::Fork("the raw TCP server", [&](const Announce& announce) {
                             std::vector<SparseSpec> hot(sparse.begin(), sparse.begin() + std::size(kDims));
                             RawService service(kMaxDenseFloats, hot);
                             ServeTcp(service, announce);
                           }));
    KeepFreedMemory();
    ClientOptions inline_keys;
    inline_keys.min_keys_to_remember = SIZE_MAX;
    using enum SheafClient::Way;
    const auto connect = [&](SheafClient::Way way, ClientOptions options) {
      return SheafClient::Connect(sheaf_server_->announced(), way, options);
    };
    const auto way = options_.tcp ? kTcp : kOfOneHost;
    SHEAF_ASSIGN_OR_RETURN(client_, connect(way, inline_keys));
    SHEAF_ASSIGN_OR_RETURN(remembering_client_, connect(way, {}));
    SHEAF_ASSIGN_OR_RETURN(tcp_client_, connect(kTcp, inline_keys));
    zmq_ = ConnectZmq(zmq_server_->announced());
    tcp_ = ConnectTcp(tcp_server_->announced());
    gradients_ =
        std::make_shared<const std::vector<float>>(std::vector<float>(size_t{100'000} * 64 + kMaxDenseFloats, 1e-3f));
    return {};
  }

  Floats Gradients(size_t count) const { return Floats(gradients_, std::span(*gradients_).first(count)); }

  // Operations a second of our client.
  Result<double> Ours(SheafClient& client, const Load& load, PullOptions pull_options, PushOptions push_options) {
    size_t next = 0;
    const double cpu_before = sheaf_server_->CpuSeconds();
    const double own_before = OwnCpuSeconds();
    const uint64_t taken_before = sheaf_server_->Allocations(), own_taken_before = Allocations();
    SHEAF_ASSIGN_OR_RETURN(
        const DriveResult run, client.Drive(kWindow, options_.seconds, [&](PsClient& ps, TimePoint now, Outbox& out) {
          const KeyVector& keys = (*load.lists)[next++ % load.lists->size()];
          if (load.op == RawOp::kDensePull || load.op == RawOp::kSparsePull) {
            std::vector<TableKeys> tables{{TableId(load.table), keys}};
            return ps.Pull(std::move(tables), pull_options, now, out);
          }
          std::vector<TableGradients> tables{{TableId(load.table), keys, Gradients(keys->size() * load.dim)}};
          PushOptions options = push_options;
          options.identity = client.NextIdentity();
          return load.op == RawOp::kDensePushPull ? ps.PushPull(std::move(tables), options, now, out)
                                                  : ps.Push(std::move(tables), options, now, out);
        }));
    latest_seconds_ = run.seconds;
    server_cpu_ = (sheaf_server_->CpuSeconds() - cpu_before) / static_cast<double>(run.operations);
    client_cpu_ = (OwnCpuSeconds() - own_before) / static_cast<double>(run.operations);
    const auto a_request = [&](uint64_t before, uint64_t now) {
      return static_cast<double>(now - before) / static_cast<double>(run.operations);
    };
    server_taken_ = a_request(taken_before, sheaf_server_->Allocations());
    client_taken_ = a_request(own_taken_before, Allocations());
    return static_cast<double>(run.operations) / run.seconds;
  }

  double Raw(RawClient& client, const Load& load) {
    size_t next = 0;
    const auto send = [&] {
      const std::vector<HashedKey>& keys = *(*load.lists)[next++ % load.lists->size()];
      const bool sparse = load.op == RawOp::kSparsePush || load.op == RawOp::kSparsePull;
      RawRequest request;
      request.header = {.op = load.op,
                        .table = load.table,
                        .keys = sparse ? keys.size() : 0,
                        .value_bytes = load.request_floats * sizeof(float),
                        .reply_bytes = load.reply_floats * sizeof(float)};
      if (sparse) request.keys = keys;
      request.values = std::span(*gradients_).first(load.request_floats);
      client.Send(request);
    };
    const double begin = Now(), end = begin + options_.seconds;
    for (uint32_t i = 0; i < kWindow; ++i) send();
    uint64_t operations = 0;
    for (uint32_t open = kWindow; open > 0; --open) {
      client.Receive();
      ++operations;
      if (Now() < end) {
        send();
        ++open;
      }
    }
    return static_cast<double>(operations) / (Now() - begin);
  }

  Case CaseOf(std::string name, std::string params, std::string unit, const Load& load, double per_operation, bool tcp,
              Bar bar) {
    Case made;
    made.name = std::move(name);
    made.params = std::move(params);
    made.unit = std::move(unit);
    made.ours = [this, load, per_operation]() -> Result<double> {
      SHEAF_ASSIGN_OR_RETURN(const double rate, Ours(*client_, load, {}, {}));
      return rate * per_operation;
    };
    made.limit_name = "raw ZeroMQ";
    made.limit = [this, load, per_operation]() -> Result<double> {
      const double before = zmq_server_->CpuSeconds(), own_before = OwnCpuSeconds();
      const double rate = Raw(*zmq_, load);
      const double requests = rate * options_.seconds;
      limit_server_cpu_ = (zmq_server_->CpuSeconds() - before) / requests;
      limit_client_cpu_ = (OwnCpuSeconds() - own_before) / requests;
      return rate * per_operation;
    };
    if (tcp) {
      made.beside_name = "raw TCP";
      made.beside = [this, load, per_operation]() -> Result<double> { return Raw(*tcp_, load) * per_operation; };
    }
    made.bar = bar;
    made.remark = [this] { return CpuRemark(); };
    return made;
  }

  std::string CpuRemark() const {
    const auto us = [](double seconds) { return FormatFixed(seconds * 1e6, 1); };
    return StrCat("us of CPU a request: server ", us(server_cpu_), " (limit ", us(limit_server_cpu_), "), client ",
                  us(client_cpu_), " (limit ", us(limit_client_cpu_), "); allocations: server ",
                  FormatFixed(server_taken_, 1), ", client ", FormatFixed(client_taken_, 1));
  }

  Status Dense() {
    const std::pair<const char*, size_t> sizes[] = {
        {"16 KiB", 16 << 10}, {"100 KiB", 100 << 10}, {"256 KiB", 256 << 10}, {"1 MiB", 1 << 20}, {"4 MiB", 4 << 20}};
    for (const auto& [text, bytes] : sizes) {
      const size_t floats = bytes / sizeof(float);
      const std::vector<KeyVector> lists{Shared(Keys(0, floats / kDenseDim))};
      const auto run = [&](const char* name, RawOp op, size_t request, size_t reply) {
        const Load load{op, kDenseTable, kDenseDim, &lists, request, reply};
        return suite_.Run(CaseOf(name, StrCat(text, " w4"), "MB/s", load, static_cast<double>(bytes) * 1e-6,
                                 op != RawOp::kDensePushPull, Bar::AtLeast(0.85)));
      };
      SHEAF_RETURN_IF_ERROR(run("dense push", RawOp::kDensePush, floats, 0));
      SHEAF_RETURN_IF_ERROR(run("dense pull", RawOp::kDensePull, 0, floats));
      SHEAF_RETURN_IF_ERROR(run("dense push-pull", RawOp::kDensePushPull, floats, floats));
    }
    return {};
  }

  Status RoundTrips() {
    const uint32_t table = kHotTables + 1;
    const KeyVector key = Shared(Keys(0, 1));
    const auto ours = [this, key](double share) -> Result<double> {
      SHEAF_ASSIGN_OR_RETURN(auto seconds, tcp_client_->RoundTrips(2000, [&](PsClient& ps, TimePoint now, Outbox& out) {
        std::vector<TableKeys> tables{{TableId(table), key}};
        return ps.Pull(std::move(tables), {}, now, out);
      }));
      std::ranges::sort(seconds);
      return 1e6 * seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1))];
    };
    const auto limit = [this, key](double share) -> Result<double> {
      std::vector<double> seconds;
      for (int i = 0; i < 2000; ++i) {
        RawRequest request;
        request.header = {
            .op = RawOp::kSparsePull, .table = table, .keys = 1, .value_bytes = 0, .reply_bytes = sizeof(float)};
        request.keys = *key;
        const double begin = Now();
        zmq_->Send(request);
        zmq_->Receive();
        seconds.push_back(Now() - begin);
      }
      std::ranges::sort(seconds);
      return 1e6 * seconds[static_cast<size_t>(share * static_cast<double>(seconds.size() - 1))];
    };
    const std::pair<const char*, double> shares[] = {{"p50", 0.5}, {"p99", 0.99}};
    for (const auto& [text, share] : shares) {
      Case round_trip;
      round_trip.name = "1-key pull over TCP";
      round_trip.params = text;
      round_trip.unit = "us";
      round_trip.ours = [ours, share = share] { return ours(share); };
      round_trip.limit_name = "raw ZeroMQ";
      round_trip.limit = [limit, share = share] { return limit(share); };
      round_trip.bar = Bar::AtMost(share < 0.9 ? 1.25 : 1.5);
      SHEAF_RETURN_IF_ERROR(suite_.Run(round_trip));
    }
    return {};
  }

  Status SparsePair(const std::string& which, uint32_t table, uint32_t dim, const std::vector<KeyVector>& lists,
                    bool tcp, Bar bar) {
    const size_t keys = lists[0]->size();
    const std::string params = StrCat(keys / 1000, "k keys, dim ", dim, " w4");
    const double rows = static_cast<double>(keys) * 1e-6;
    const Load push{RawOp::kSparsePush, table, dim, &lists, keys * dim, 0};
    const Load pull{RawOp::kSparsePull, table, dim, &lists, 0, keys * dim};
    SHEAF_RETURN_IF_ERROR(suite_.Run(CaseOf(which + " push", params, "M rows/s", push, rows, tcp, bar)));
    return suite_.Run(CaseOf(which + " pull", params, "M rows/s", pull, rows, tcp, bar));
  }

  Status Hot() {
    for (const uint32_t dim : kDims) {
      for (const size_t keys : kRequestKeys) {
        std::vector<KeyVector> lists;
        for (size_t i = 0; i < kHotCopies; ++i) lists.push_back(Shared(Keys(0, keys)));
        SHEAF_RETURN_IF_ERROR(Push(kHotTables + dim, dim, {lists[0]}));  // so that there are rows to pull
        SHEAF_RETURN_IF_ERROR(SparsePair("hot", kHotTables + dim, dim, lists, true, Bar::AtLeast(0.80)));
      }
    }
    return {};
  }

  // Lists that repeat, named by signature, beside the same sent whole each time.
  Status Signatures() {
    for (const RawOp op : {RawOp::kSparsePush, RawOp::kSparsePull}) {
      for (const size_t keys : kRequestKeys) {
        const std::vector<KeyVector> lists{Shared(Keys(0, keys))};
        const bool push = op == RawOp::kSparsePush;
        const Load load{op, kHotTables + 1, 1, &lists, push ? keys : 0, push ? 0 : keys};
        Case made;
        made.name = push ? "repeated keys push" : "repeated keys pull";
        made.params = StrCat(keys / 1000, "k keys, dim 1 w4");
        made.unit = "M rows/s";
        const double rows = static_cast<double>(keys) * 1e-6;
        made.ours = [this, load, rows]() -> Result<double> {
          SHEAF_ASSIGN_OR_RETURN(const double rate, Ours(*remembering_client_, load, {}, {}));
          return rate * rows;
        };
        made.limit_name = "keys sent each time";
        made.limit = [this, load, rows]() -> Result<double> {
          SHEAF_ASSIGN_OR_RETURN(const double rate, Ours(*client_, load, {}, {}));
          return rate * rows;
        };
        made.bar = Bar::AtLeast(1.25);
        SHEAF_RETURN_IF_ERROR(suite_.Run(made));
        SHEAF_RETURN_IF_ERROR(NoteBits(load));
      }
    }
    return {};
  }

  // What a key and its value cost on the wire, both ways and with headers, if the list is named and values are fp16.
  Status NoteBits(const Load& load) {
    const size_t keys = (*load.lists)[0]->size();
    const bool push = load.op == RawOp::kSparsePush;
    Row row;
    row.suite = suite_.name();
    row.name = push ? "repeated keys push wire" : "repeated keys pull wire";
    row.params = StrCat(keys / 1000, "k keys, dim 1, fp16");
    if (!suite_.Wanted(row.name, row.params)) return {};
    const auto bits = [&](SheafClient& client) -> Result<double> {
      PullOptions pull;
      PushOptions options;
      pull.codec = options.codec = pb::WireSpec::FP16;
      SHEAF_RETURN_IF_ERROR(Ours(client, load, pull, options));  // so that the list is known
      const uint64_t before = client.WireBytes();
      SHEAF_ASSIGN_OR_RETURN(const double rate, Ours(client, load, pull, options));
      const double operations = rate * latest_seconds_;
      return static_cast<double>(client.WireBytes() - before) * 8 / (operations * static_cast<double>(keys));
    };
    SHEAF_ASSIGN_OR_RETURN(const double named, bits(*remembering_client_));
    SHEAF_ASSIGN_OR_RETURN(const double sent, bits(*client_));
    row.unit = "bits a pair";
    row.ours = {named, named, named};
    row.limit_name = "what is aimed at";
    row.limit = Series{kPairBits, kPairBits, kPairBits};
    row.ratio = named / kPairBits;
    row.bar = Bar::AtMost(1);
    row.remark = StrCat("keys sent each time: ", FormatFixed(sent, 1));
    suite_.Add(std::move(row));
    return {};
  }

  Status Fill(uint32_t table, uint32_t dim) {
    // Each piece is spread over the whole key space, as hashed keys of a batch are.
    const size_t pieces = (options_.rows + 49'999) / 50'000;
    const std::vector<HashedKey> all = Keys(0, options_.rows);
    std::vector<KeyVector> lists;
    for (size_t piece = 0; piece < pieces; ++piece) {
      std::vector<HashedKey> keys;
      for (size_t i = piece; i < all.size(); i += pieces) keys.push_back(all[i]);
      lists.push_back(Shared(std::move(keys)));
    }
    return Push(table, dim, lists);
  }

  // Makes the rows of the lists, in the limit's table and in ours.
  Status Push(uint32_t table, uint32_t dim, const std::vector<KeyVector>& lists) {
    size_t next = 0;
    for (const KeyVector& keys : lists) {
      RawRequest request;
      request.header = {.op = RawOp::kSparsePush,
                        .table = table,
                        .keys = keys->size(),
                        .value_bytes = keys->size() * dim * sizeof(float),
                        .reply_bytes = 0};
      request.keys = *keys;
      request.values = std::span(*gradients_).first(keys->size() * dim);
      zmq_->Send(request);
      zmq_->Receive();
    }
    while (next < lists.size()) {
      const size_t end = std::min(lists.size(), next + 8);
      SHEAF_ASSIGN_OR_RETURN(
          [[maybe_unused]] const auto seconds,
          client_->RoundTrips(end - next, [&](PsClient& ps, TimePoint now, Outbox& out) {
            const KeyVector& keys = lists[next++];
            std::vector<TableGradients> tables{{TableId(table), keys, Gradients(keys->size() * dim)}};
            PushOptions options;
            options.identity = client_->NextIdentity();
            return ps.Push(std::move(tables), options, now, out);
          }));
    }
    return {};
  }

  Status Large() {
    for (const uint32_t dim : kLargeDims) {
      const std::string any = StrCat("dim ", dim, " w4");
      if (!suite_.Wanted("large push large pull large memory", any)) continue;
      const uint32_t table = kLargeTables + dim;
      const size_t before = sheaf_server_->ResidentBytes();
      SHEAF_RETURN_IF_ERROR(Fill(table, dim));
      if (dim == 16) NoteMemory(sheaf_server_->ResidentBytes() - before, dim);
      Random random(dim);
      for (const size_t keys : kRequestKeys) {
        std::vector<KeyVector> lists;
        const size_t count = std::clamp<size_t>(4'000'000 / keys, 32, 512);
        for (size_t i = 0; i < count; ++i) lists.push_back(Shared(RandomKeys(random, options_.rows, keys)));
        SHEAF_RETURN_IF_ERROR(SparsePair("large", table, dim, lists, false, Bar::AtLeast(0.75)));
      }
    }
    return {};
  }

  void NoteMemory(size_t bytes, uint32_t dim) {
    const double row = static_cast<double>(bytes) / static_cast<double>(options_.rows);
    const double raw = sizeof(HashedKey) + 2.0 * dim * sizeof(float);
    Row row_of{.suite = suite_.name(),
               .name = "large memory",
               .params = StrCat("dim ", dim, ", Adagrad"),
               .unit = "B/row",
               .ours = {row, row, row},
               .limit_name = "key + value + state",
               .limit = Series{raw, raw, raw},
               .ratio = row / raw,
               .bar = Bar::AtMost(1.3),
               .beside_name = {},
               .beside = std::nullopt,
               .remark = "resident"};
    if (suite_.Wanted(row_of.name, row_of.params)) suite_.Add(std::move(row_of));
  }

  const KvOptions options_;
  Suite& suite_;
  std::unique_ptr<Child> sheaf_server_, zmq_server_, tcp_server_;
  std::unique_ptr<SheafClient> client_, remembering_client_, tcp_client_;
  std::unique_ptr<RawClient> zmq_, tcp_;
  std::shared_ptr<const std::vector<float>> gradients_;
  double latest_seconds_ = 0;  // of our latest sample
  // Of the latest sample, seconds a request.
  double server_cpu_ = 0, client_cpu_ = 0, limit_server_cpu_ = 0, limit_client_cpu_ = 0;
  double server_taken_ = 0, client_taken_ = 0;  // calls of operator new a request
};

}  // namespace

Status RunKv(const KvOptions& options, Suite& suite) { return KvSuite(options, suite).Run(); }

}  // namespace sheaf::bench
