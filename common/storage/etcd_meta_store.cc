#include "common/storage/etcd_meta_store.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf {
namespace {

// etcd's defaults are 128 operations, of each kind, and 1.5 MiB.
constexpr size_t kMostOps = 100, kMostBytes = size_t{1} << 20;
constexpr size_t kPieceBytes = size_t{512} << 10;
constexpr size_t kMostCompares = 32, kLongestKey = 4096;
constexpr int64_t kPage = 128;  // entries that are read at once
constexpr size_t kPieceDigits = 8;

std::string PieceNumber(size_t piece) {
  char text[kPieceDigits + 1];
  std::snprintf(text, sizeof text, "%08zu", piece % 100'000'000);
  return text;
}

size_t PieceCount(size_t bytes) { return (bytes + kPieceBytes - 1) / kPieceBytes; }

size_t BytesOf(const EtcdOp& op) { return op.range.key.size() + op.range.end.size() + op.value.size() + 32; }

bool IsWorthAnotherTry(const Error& error) {
  return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kTimeout ||
         error.code == ErrorCode::kDataLoss;
}

// A transaction as bytes: how many puts and deletes, then each text with its length before it.
void PutText(std::string& bytes, const std::string& text) { bytes += std::to_string(text.size()) + ":" + text; }

std::string Pack(const MetaTxn& txn) {
  std::string bytes = std::to_string(txn.puts.size()) + ":";
  for (const MetaEntry& put : txn.puts) {
    PutText(bytes, put.key);
    PutText(bytes, put.value);
  }
  for (const std::string& key : txn.deletes) PutText(bytes, key);
  return bytes;
}

class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : rest_(bytes) {}
  bool done() const { return rest_.empty(); }
  std::optional<uint64_t> Number() {
    const size_t colon = rest_.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto number = ParseUint(rest_.substr(0, colon));
    rest_.remove_prefix(colon + 1);
    return number ? std::optional(*number) : std::nullopt;
  }
  std::optional<std::string> Text() {
    const auto size = Number();
    if (!size || *size > rest_.size()) return std::nullopt;
    std::string text(rest_.substr(0, *size));
    rest_.remove_prefix(*size);
    return text;
  }

 private:
  std::string_view rest_;
};

std::optional<MetaTxn> Unpack(std::string_view bytes) {
  Unpacker packed(bytes);
  MetaTxn txn;
  const auto puts = packed.Number();
  if (!puts) return std::nullopt;
  for (uint64_t i = 0; i < *puts; ++i) {
    auto key = packed.Text();
    auto value = packed.Text();
    if (!key || !value) return std::nullopt;
    txn.puts.push_back({std::move(*key), std::move(*value)});
  }
  while (!packed.done()) {
    auto key = packed.Text();
    if (!key) return std::nullopt;
    txn.deletes.push_back(std::move(*key));
  }
  return txn;
}

bool Same(const MetaTxn& a, const MetaTxn& b) {
  const auto same_compare = [](const MetaCompare& x, const MetaCompare& y) {
    return x.key == y.key && x.value == y.value;
  };
  const auto same_put = [](const MetaEntry& x, const MetaEntry& y) { return x.key == y.key && x.value == y.value; };
  return std::ranges::equal(a.compares, b.compares, same_compare) && std::ranges::equal(a.puts, b.puts, same_put) &&
         a.deletes == b.deletes;
}

std::string FirstValue(const EtcdRangeAnswer& range) { return range.entries.empty() ? "" : range.entries[0].value; }

}  // namespace

Result<std::unique_ptr<EtcdMetaStore>> EtcdMetaStore::Open(const EtcdAddress& address, Options options) {
  std::unique_ptr<EtcdMetaStore> store(new EtcdMetaStore(address, std::move(options)));
  SHEAF_RETURN_IF_ERROR(store->Begin());
  return store;
}

EtcdMetaStore::EtcdMetaStore(const EtcdAddress& address, Options options)
    : options_(std::move(options)), prefix_(address.prefix + "/"), client_(address.endpoints, options_.client),
      names_(StrCat(EntropySeed(), "-")) {}

EtcdMetaStore::~EtcdMetaStore() = default;

std::string EtcdMetaStore::NewName() { return names_ + std::to_string(next_name_++); }

std::string EtcdMetaStore::PiecesKey(const std::string& key) const {
  return Key("v/" + PieceNumber(key.size()) + "/" + key + "/");
}

EtcdCompare EtcdMetaStore::NamesLast() const {
  return last_.empty() ? EtcdCompare::Absent(Key("txn")) : EtcdCompare::Value(Key("txn"), last_);
}

std::vector<EtcdCompare> EtcdMetaStore::Fenced() const {
  if (!options_.fence) return {};
  return {EtcdCompare::CreatedAt(options_.fence->key, options_.fence->create_revision)};
}

Status EtcdMetaStore::Begin() {
  SHEAF_ASSIGN_OR_RETURN(const auto last, client_.Range({.key = Key("txn")}));
  last_ = FirstValue(last);
  SHEAF_ASSIGN_OR_RETURN(const auto marker, client_.Range({.key = Key("large")}));
  if (const std::string text = FirstValue(marker); !text.empty()) {
    const size_t space = text.find(' ');
    const auto pieces = ParseUint(std::string_view(text).substr(std::min(space, text.size() - 1) + 1));
    if (space == std::string::npos || !pieces) {
      return Fail(ErrorCode::kDataLoss, "the record ", Key("large"), " in etcd cannot be read: it is damaged");
    }
    large_ = Large{.name = text.substr(0, space), .pieces = *pieces};
  }
  EtcdRange pieces = EtcdPrefix(Key("v/"));
  pieces.keys_only = true;
  SHEAF_ASSIGN_OR_RETURN(const auto listed, ReadAll(std::move(pieces)));
  const size_t before = Key("v/").size() + kPieceDigits + 1, after = kPieceDigits + 1;
  for (const EtcdEntry& entry : listed) {
    if (entry.key.size() < before + after) continue;
    const auto number = ParseUint(std::string_view(entry.key).substr(entry.key.size() - kPieceDigits));
    if (!number) continue;
    size_t& count = pieces_[entry.key.substr(before, entry.key.size() - before - after)];
    count = std::max<size_t>(count, *number + 1);
  }
  SHEAF_RETURN_IF_ERROR(BringToPlace());
  EtcdRange left = EtcdPrefix(Key("large/"));  // by who ended before his transaction was done
  left.limit = 1;
  left.keys_only = true;
  SHEAF_ASSIGN_OR_RETURN(const auto found, client_.Range(left));
  if (found.entries.empty()) return {};
  // A transaction like others: should it come late, it does not take away the pieces of one after it.
  const std::string name = NewName();
  EtcdTxn remove{.compares = Fenced(),
                 .then = {EtcdOp::Delete(EtcdPrefix(Key("large/"))), EtcdOp::Put(Key("txn"), name)}};
  remove.compares.push_back(NamesLast());
  SHEAF_ASSIGN_OR_RETURN(const auto removed, client_.Txn(remove));
  if (!removed.succeeded) return Fail(ErrorCode::kAlreadyExists, "another process writes to ", prefix_, " in etcd");
  last_ = name;
  return {};
}

Result<std::optional<std::string>> EtcdMetaStore::Get(const std::string& key) {
  if (const auto settled = Settle(); !settled) return Failure{settled.error()};
  SHEAF_ASSIGN_OR_RETURN(const auto read, client_.Range({.key = ValueKey(key)}));
  if (read.entries.empty()) return std::optional<std::string>();
  SHEAF_ASSIGN_OR_RETURN(std::string value, ValueOf(key, read.entries[0].value));
  return std::optional(std::move(value));
}

Result<std::vector<MetaEntry>> EtcdMetaStore::List(const std::string& prefix) {
  if (const auto settled = Settle(); !settled) return Failure{settled.error()};
  SHEAF_ASSIGN_OR_RETURN(auto read, ReadAll(EtcdPrefix(ValueKey(prefix))));
  std::vector<MetaEntry> listed;
  listed.reserve(read.size());
  for (EtcdEntry& entry : read) {
    std::string key = entry.key.substr(ValueKey("").size());
    SHEAF_ASSIGN_OR_RETURN(std::string value, ValueOf(key, entry.value));
    listed.push_back({std::move(key), std::move(value)});
  }
  return listed;
}

Result<std::vector<EtcdEntry>> EtcdMetaStore::ReadAll(EtcdRange range) {
  std::vector<EtcdEntry> all;
  range.limit = kPage;
  while (true) {
    SHEAF_ASSIGN_OR_RETURN(auto page, client_.Range(range));
    range.revision = page.revision;  // all pages are of one moment
    const bool more = page.more && !page.entries.empty();
    if (more) range.key = page.entries.back().key + '\0';
    std::ranges::move(page.entries, std::back_inserter(all));
    if (!more) return all;
  }
}

Result<std::string> EtcdMetaStore::ReadPieces(const std::string& prefix, size_t count) {
  SHEAF_ASSIGN_OR_RETURN(const auto pieces, ReadAll(EtcdPrefix(prefix)));
  std::string bytes;
  size_t found = 0;
  for (const EtcdEntry& piece : pieces) {
    if (piece.key == prefix + PieceNumber(found)) {
      bytes += piece.value;
      ++found;
    }
  }
  if (found != count || pieces.size() != count) {
    return Fail(ErrorCode::kDataLoss, "of ", prefix, " in etcd there are ", found, " of ", count,
                " pieces: it is damaged");
  }
  return bytes;
}

Result<std::string> EtcdMetaStore::ValueOf(const std::string& key, const std::string& stored) {
  if (stored.starts_with('=')) return stored.substr(1);
  const auto count = stored.starts_with('+') ? ParseUint(std::string_view(stored).substr(1)) : Result<uint64_t>(0);
  if (!count || *count == 0) {
    return Fail(ErrorCode::kDataLoss, "the record ", ValueKey(key), " in etcd cannot be read: it is damaged");
  }
  return ReadPieces(PiecesKey(key), *count);
}

Result<bool> EtcdMetaStore::Txn(const MetaTxn& txn) {
  const auto long_key = [](const std::string& key) { return key.size() > kLongestKey; };
  const bool misfit =
      txn.compares.size() > kMostCompares || std::ranges::any_of(txn.deletes, long_key) ||
      std::ranges::any_of(txn.puts, long_key, &MetaEntry::key) ||
      std::ranges::any_of(txn.compares, [](const auto& c) { return c.value && c.value->size() > kPieceBytes; });
  if (misfit) return Fail(ErrorCode::kInvalidArgument, "etcd cannot take such a transaction");
  const TimePoint until = clock_.Now() + options_.deadline;
  // Once at each member, and once more, as the answer of one may come after it was asked for the last time.
  for (size_t tries = client_.endpoint_count() + 1;; --tries) {
    auto settled = Settle();
    if (settled && *settled && Same(**settled, txn)) return true;
    auto done = settled ? TryTxn(txn) : Result<bool>(Failure{settled.error()});
    if (done || !IsWorthAnotherTry(done.error())) return done;
    if (tries == 0 || clock_.Now() >= until) return Fail(ErrorCode::kUnavailable, done.error().message);
  }
}

Result<std::optional<MetaTxn>> EtcdMetaStore::Settle() {
  std::optional<MetaTxn> unsaid;
  if (unsettled_) {
    MetaTxn txn = unsettled_->txn;
    SHEAF_ASSIGN_OR_RETURN(const bool done, ResolveUnsettled());
    if (done) unsaid = std::move(txn);
  }
  if (large_) {
    if (large_->txn) unsaid = large_->txn;
    SHEAF_RETURN_IF_ERROR(BringToPlace());
  }
  return unsaid;
}

Result<bool> EtcdMetaStore::ResolveUnsettled() {
  EtcdTxn resolve{.compares = Fenced(),
                  .then = {EtcdOp::Put(Key("txn"), unsettled_->barrier)},
                  .otherwise = {EtcdOp::Read({.key = Key("txn")})}};
  resolve.compares.push_back(NamesLast());
  SHEAF_ASSIGN_OR_RETURN(const auto answer, client_.Txn(resolve));
  const Unsettled was = *std::exchange(unsettled_, std::nullopt);
  if (answer.succeeded) {
    last_ = was.barrier;
    return false;
  }
  const std::string last = answer.ranges.empty() ? "" : FirstValue(answer.ranges[0]);
  const std::string before = std::exchange(last_, last);
  if (last == was.name) {
    if (was.pieces > 0) {
      large_ = Large{.name = was.name, .pieces = was.pieces, .txn = was.txn};
    } else {
      NotePieces(was.txn);
    }
    return true;
  }
  // As before: we do not lead any more, and what still comes does nothing.
  if (last == was.barrier || last == before) return false;
  return Fail(ErrorCode::kAlreadyExists, "another process writes to ", prefix_, " in etcd");
}

Result<bool> EtcdMetaStore::TryTxn(const MetaTxn& txn) {
  EtcdTxn commit{.compares = Fenced(),
                 .otherwise = {EtcdOp::Read({.key = Key("txn")}), EtcdOp::Read({.key = Key("large")})}};
  commit.compares.push_back(NamesLast());
  commit.compares.push_back(EtcdCompare::Absent(Key("large")));
  for (const MetaCompare& compare : txn.compares) {
    commit.compares.push_back(compare.value ? EtcdCompare::Value(ValueKey(compare.key), "=" + *compare.value)
                                            : EtcdCompare::Absent(ValueKey(compare.key)));
  }
  const std::string name = NewName();
  std::vector<EtcdOp> ops = OpsOf(txn);
  size_t bytes = 0;
  for (const EtcdOp& op : ops) bytes += BytesOf(op);
  size_t pieces = 0;
  if (ops.size() > kMostOps || bytes > kMostBytes) {
    SHEAF_ASSIGN_OR_RETURN(pieces, PutPieces(name, Pack(txn)));
    ops = {EtcdOp::Put(Key("large"), Large{.name = name, .pieces = pieces}.Marker())};
  }
  commit.then = std::move(ops);
  commit.then.push_back(EtcdOp::Put(Key("txn"), name));
  SHEAF_ASSIGN_OR_RETURN(const bool done, Commit(txn, std::move(commit), name, pieces));
  if (done && pieces == 0) NotePieces(txn);
  if (done && pieces > 0) SHEAF_RETURN_IF_ERROR(BringToPlace());
  if (!done && pieces > 0) (void)DoFenced(std::nullopt, {EtcdOp::Delete(EtcdPrefix(Key("large/" + name + "/")))});
  return done;
}

Result<bool> EtcdMetaStore::Commit(const MetaTxn& txn, EtcdTxn commit, const std::string& name, size_t pieces) {
  const auto answer = client_.Txn(commit);
  if (!answer) {
    const ErrorCode code = answer.error().code;
    const bool not_done = code == ErrorCode::kUnavailable || code == ErrorCode::kInvalidArgument ||
                          code == ErrorCode::kPermissionDenied;
    if (!not_done) unsettled_ = Unsettled{.txn = txn, .name = name, .barrier = NewName(), .pieces = pieces};
    return Failure{answer.error()};
  }
  if (answer->succeeded) {
    last_ = name;
    if (pieces > 0) large_ = Large{.name = name, .pieces = pieces, .txn = txn};
    return true;
  }
  const std::string last = answer->ranges.empty() ? "" : FirstValue(answer->ranges[0]);
  if (std::exchange(last_, last) == last) return false;
  return Fail(ErrorCode::kAlreadyExists, "another process writes to ", prefix_, " in etcd");
}

Result<size_t> EtcdMetaStore::PutPieces(const std::string& name, const std::string& bytes) {
  const size_t count = PieceCount(bytes.size());
  for (size_t i = 0; i < count; ++i) {
    const std::string key = Key("large/" + name + "/" + PieceNumber(i));
    SHEAF_ASSIGN_OR_RETURN(
        [[maybe_unused]] const bool done,
        DoFenced(std::nullopt, {EtcdOp::Put(key, bytes.substr(i * kPieceBytes, kPieceBytes))}));
  }
  return count;
}

Status EtcdMetaStore::BringToPlace() {
  if (!large_) return {};
  const std::string prefix = Key("large/" + large_->name + "/");
  if (!large_->txn) {
    SHEAF_ASSIGN_OR_RETURN(const std::string bytes, ReadPieces(prefix, large_->pieces));
    large_->txn = Unpack(bytes);
    if (!large_->txn) return Fail(ErrorCode::kDataLoss, "the transaction ", prefix, " in etcd is damaged");
  }
  std::vector<EtcdOp> batch;
  size_t bytes = 0;
  bool goes_on = true;
  const auto flush = [&]() -> Status {
    SHEAF_ASSIGN_OR_RETURN(goes_on, DoFenced(large_->Marker(), std::exchange(batch, {})));
    bytes = 0;
    return {};
  };
  for (EtcdOp& op : OpsOf(*large_->txn)) {
    if (batch.size() == kMostOps || (!batch.empty() && bytes + BytesOf(op) > kMostBytes)) {
      SHEAF_RETURN_IF_ERROR(flush());
      if (!goes_on) break;
    }
    bytes += BytesOf(op);
    batch.push_back(std::move(op));
  }
  if (goes_on && !batch.empty()) SHEAF_RETURN_IF_ERROR(flush());
  if (goes_on) {
    batch = {EtcdOp::Delete({.key = Key("large")}), EtcdOp::Delete(EtcdPrefix(prefix))};
    SHEAF_RETURN_IF_ERROR(flush());
  }
  NotePieces(*large_->txn);
  large_.reset();
  return {};
}

Result<bool> EtcdMetaStore::DoFenced(const std::optional<std::string>& marker, std::vector<EtcdOp> ops) {
  EtcdTxn txn{.compares = Fenced(), .then = std::move(ops), .otherwise = {EtcdOp::Read({.key = Key("large")})}};
  if (marker) txn.compares.push_back(EtcdCompare::Value(Key("large"), *marker));
  SHEAF_ASSIGN_OR_RETURN(const auto answer, client_.Txn(txn));
  if (answer.succeeded) return true;
  const std::string there = answer.ranges.empty() ? "" : FirstValue(answer.ranges[0]);
  if (marker && there != *marker) return false;
  return Fail(ErrorCode::kAlreadyExists, "another process writes to ", prefix_, " in etcd");
}

// No key twice, as etcd wants it: deletes come after puts, and of two puts the later one counts. Pieces that a new
// value does not have are removed.
std::vector<EtcdOp> EtcdMetaStore::OpsOf(const MetaTxn& txn) const {
  std::vector<EtcdOp> ops;
  const auto remove_pieces = [&](const std::string& key, size_t from) {
    const auto known = pieces_.find(key);
    if (known == pieces_.end() || known->second <= from) return;
    const std::string prefix = PiecesKey(key);
    ops.push_back(EtcdOp::Delete({.key = prefix + PieceNumber(from), .end = EtcdPrefix(prefix).end}));
  };
  const std::set<std::string_view> deleted(txn.deletes.begin(), txn.deletes.end());
  std::map<std::string_view, const std::string*> values;
  for (const MetaEntry& put : txn.puts) {
    if (!deleted.contains(put.key)) values[put.key] = &put.value;
  }
  for (const auto& [name, bytes] : values) {
    const std::string key(name);
    const std::string& value = *bytes;
    if (value.size() <= kPieceBytes) {
      ops.push_back(EtcdOp::Put(ValueKey(key), "=" + value));
      remove_pieces(key, 0);
      continue;
    }
    const size_t count = PieceCount(value.size());
    ops.push_back(EtcdOp::Put(ValueKey(key), "+" + std::to_string(count)));
    for (size_t i = 0; i < count; ++i) {
      const size_t begin = i * kPieceBytes;
      ops.push_back(EtcdOp::Put(PiecesKey(key) + PieceNumber(i), value.substr(begin, kPieceBytes)));
    }
    remove_pieces(key, count);
  }
  for (const std::string_view name : deleted) {
    const std::string key(name);
    ops.push_back(EtcdOp::Delete({.key = ValueKey(key)}));
    remove_pieces(key, 0);
  }
  return ops;
}

void EtcdMetaStore::NotePieces(const MetaTxn& txn) {
  for (const MetaEntry& put : txn.puts) {
    pieces_.erase(put.key);
    if (put.value.size() > kPieceBytes) pieces_[put.key] = PieceCount(put.value.size());
  }
  for (const std::string& key : txn.deletes) pieces_.erase(key);
}

}  // namespace sheaf
