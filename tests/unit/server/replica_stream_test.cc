// Records on their way to a copy: whatever becomes of the messages, they come out whole, once and in order.
#include "server/replica_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/storage/redo_log.h"

namespace sheaf {
namespace {

constexpr PeerId kBackup{9};

std::vector<Buffer> Pieces(const std::vector<std::string>& texts) {
  std::vector<Buffer> pieces;
  for (const std::string& text : texts) pieces.push_back(Buffer::CopyOf(std::as_bytes(std::span(text))));
  return pieces;
}

class ReplicaStreamTest : public testing::Test {
 protected:
  // Hands a message over; what comes of it is added to `records_`.
  void Deliver(const Message& message) {
    std::vector<Buffer> records;
    const Status read = reader_.Read(message.header.replicate(), message.values, records);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    for (const Buffer& record : records) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(record.data()) % 8, 0u);
      records_.emplace_back(record.text());
    }
  }
  std::vector<Outbox::Item> Flush() {
    Outbox out;
    stream_.Flush(now_, out);
    return std::move(out.items());
  }
  void Reply() {
    pb::ReplicateReply reply;
    reply.set_taken(reader_.read());
    stream_.OnReply(reply, now_);
  }

  ReplicaStream stream_{1, kBackup};
  ReplicaReader reader_;
  TimePoint now_{};
  std::vector<std::string> records_;
};

TEST_F(ReplicaStreamTest, BringsSeveralRecordsInOneMessage) {
  stream_.Write(Pieces({"one", "and", ""}));
  stream_.Write(Pieces({""}));
  stream_.Write(Pieces({"three"}));
  const auto items = Flush();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].to, kBackup);
  EXPECT_EQ(items[0].message.header.replicate().to(), kBackup.value);
  Deliver(items[0].message);
  EXPECT_EQ(records_, (std::vector<std::string>{"oneand", "", "three"}));
  Reply();
  EXPECT_EQ(stream_.taken(), stream_.written());
  EXPECT_TRUE(Flush().empty());
}

TEST_F(ReplicaStreamTest, CutsARecordThatIsLargerThanAMessage) {
  const std::string large(size_t{5} << 20, 'x');
  stream_.Write(Pieces({"before"}));
  stream_.Write(Pieces({large, "y"}));
  stream_.Write(Pieces({"after"}));
  const auto items = Flush();
  EXPECT_GT(items.size(), 4u);
  for (const auto& item : items) Deliver(item.message);
  ASSERT_EQ(records_.size(), 3u);
  EXPECT_EQ(records_[1], large + "y");
  EXPECT_EQ(records_[2], "after");
}

TEST_F(ReplicaStreamTest, SendsAgainWhatWasNotTakenAndOnlyThat) {
  stream_.Write(Pieces({"one"}));
  Deliver(Flush()[0].message);
  Reply();
  stream_.Write(Pieces({"two"}));
  EXPECT_EQ(Flush().size(), 1u);  // and lost
  now_ += Milliseconds(100);
  EXPECT_TRUE(Flush().empty());
  now_ += Milliseconds(300);
  const auto again = Flush();
  ASSERT_EQ(again.size(), 1u);
  Deliver(again[0].message);
  EXPECT_EQ(records_, (std::vector<std::string>{"one", "two"}));
}

TEST_F(ReplicaStreamTest, OutlivesLossRepetitionAndDisorder) {
  Random random(7);
  std::vector<std::string> written;
  std::vector<Message> on_the_way;
  for (int turn = 0; turn < 500 || (turn < 100'000 && stream_.taken() < stream_.written()); ++turn) {
    now_ += Milliseconds(50);
    if (turn < 500) {
      written.push_back(std::string(random.Below(100), static_cast<char>('a' + turn % 26)));
      stream_.Write(Pieces({written.back()}));
    }
    for (auto& item : Flush()) on_the_way.push_back(std::move(item.message));
    while (!on_the_way.empty() && random.Chance(0.98)) {
      const size_t which = random.Below(std::min<size_t>(on_the_way.size(), 3));
      if (!random.Chance(0.1)) Deliver(on_the_way[which]);
      if (!random.Chance(0.2)) on_the_way.erase(on_the_way.begin() + static_cast<ptrdiff_t>(which));
    }
    if (random.Chance(0.5)) Reply();
  }
  EXPECT_EQ(records_, written);
}

TEST_F(ReplicaStreamTest, RefusesWhatNoStreamHas) {
  std::vector<Buffer> records;
  pb::Replicate header;
  header.set_offset(0);
  EXPECT_FALSE(reader_.Read(header, Buffer::FromVector(std::vector<std::byte>(13)), records).has_value());
  ReplicaReader fresh;
  EXPECT_FALSE(fresh.Read(header, Buffer::FromVector(std::vector<uint64_t>{RedoLog::kMaxRecordBytes + 1}), records));
}

}  // namespace
}  // namespace sheaf
