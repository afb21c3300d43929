#include "tests/chaos/client/ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "common/base/random.h"
#include "common/storage/files.h"

namespace sheaf::chaos {
namespace {

constexpr uint64_t kFirstKey = uint64_t{1} << 40;   // no feature of the training data has such a number
constexpr uint64_t kLists = 64;                     // of each client that come again and again: servers know them
constexpr double kOldList = 0.5;
constexpr uint64_t kGreatestGradient = 8;

using Record = std::array<uint64_t, 3>;             // the stream, and the count

}  // namespace

Result<Ledger> Ledger::Open(const std::string& path, uint64_t seed, uint32_t client) {
  Ledger ledger(path, seed, client);
  Record record{};
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 && errno != ENOENT) return FileError("cannot open", path);
  if (file >= 0) {
    const ssize_t got = read(file, record.data(), sizeof(record));
    close(file);
    if (got != sizeof(record)) return Fail(ErrorCode::kIo, path, " is no ledger of a chaos client");
    ledger.stream_high_ = record[0];
    ledger.stream_low_ = record[1];
    ledger.acknowledged_ = record[2];
    for (uint64_t number = 0; number < ledger.acknowledged_; ++number) ledger.Add(ledger.PushOf(number));
    return ledger;
  }
  ledger.stream_high_ = EntropySeed();
  ledger.stream_low_ = EntropySeed();
  SHEAF_RETURN_IF_ERROR(ledger.Save());
  return ledger;
}

Status Ledger::Acknowledge() {
  Add(PushOf(acknowledged_));
  ++acknowledged_;
  return Save();
}

// One write of 24 bytes: what dies is this process, not the machine.
Status Ledger::Save() const {
  const int file = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return FileError("cannot open", path_);
  const Record record{stream_high_, stream_low_, acknowledged_};
  const ssize_t put = pwrite(file, record.data(), sizeof(record), 0);
  close(file);
  if (put != sizeof(record)) return FileError("cannot write", path_);
  return {};
}

ChaosPush Ledger::PushOf(uint64_t number) const {
  Random random(MixPair(MixPair(seed_, client_), number));
  Random of_list(random.Chance(kOldList) ? MixPair(client_, random.Below(kLists)) : random.Next());
  std::set<uint32_t> rows;
  for (uint64_t left = 1 + of_list.Below(kMostRowsOfPush); left > 0; --left) {
    rows.insert(static_cast<uint32_t>(of_list.Below(kRowsEach)));
  }
  ChaosPush push;
  push.rows.assign(rows.begin(), rows.end());
  for (size_t i = 0; i < push.rows.size(); ++i) {
    push.gradients.push_back(static_cast<float>(1 + random.Below(kGreatestGradient)));
  }
  return push;
}

void Ledger::Add(const ChaosPush& push) {
  for (size_t i = 0; i < push.rows.size(); ++i) expected_[push.rows[i]] -= push.gradients[i];
}

HashedKey Ledger::KeyOf(uint32_t row) const { return MixKey(kFirstKey + uint64_t{client_} * kRowsEach + row); }

std::vector<Ledger::KeyedRow> Ledger::AllRows() const {
  std::vector<KeyedRow> rows;
  for (uint32_t row = 0; row < kRowsEach; ++row) rows.push_back({KeyOf(row), row});
  std::ranges::sort(rows);
  return rows;
}

}  // namespace sheaf::chaos
