// Any answer to the client library, between those of real shards: every operation ends at most once, with results of
// the size asked for, and when nobody answers any more, all of them end.
#include <set>

#include "client/ps_client.h"
#include "common/base/check.h"
#include "common/base/partition.h"
#include "tests/fuzz/cores/conversation.h"

namespace sheaf {
namespace {

constexpr PeerId kSelf{7};

ClientOptions SmallClient() {
  ClientOptions options;
  options.max_payload_bytes = 256;  // so that pushes have slices
  options.credit_bytes = 1024;
  options.min_keys_to_remember = 4;
  return options;
}

// Lists of 0, 1, 9 and 64 keys, spread over the partitions.
KeyVector KeysOf(uint64_t which) {
  constexpr uint64_t kSizes[] = {0, 1, 9, 64};
  const uint64_t size = kSizes[which % 4];
  std::vector<HashedKey> keys;
  for (uint64_t i = 0; i < size; ++i) keys.push_back(i * (~uint64_t{0} / size) + which / 4 % 8);
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

class Client {
 public:
  Client() : core_(kSelf, SmallClient()) { core_.OnConfig(SmallCluster()); }

  void Hear(const pb::Event& event) {
    now_ += PauseBefore(event);
    core_.OnTick(now_, out_);
    if (event.has_act()) {
      Act(event);
    } else if (event.has_deliver()) {
      if (const Outbox::Item* sent = sent_.FromLast(event.deliver())) {
        const PeerId shard = sent->to;
        for (Message& answer : sent_.Deliver(*sent, kSelf, now_)) core_.OnMessage(shard, std::move(answer), now_, out_);
      }
    } else if (event.has_header()) {
      Message message = MessageOf(event);
      PeerId from(event.from());
      if (event.has_answers()) {
        if (const Outbox::Item* sent = sent_.FromLast(event.answers())) {
          from = sent->to;
          message.header.set_request(sent->message.header.request());
        }
      }
      core_.OnMessage(from, std::move(message), now_, out_);
    }
    Settle();
  }

  void End() {
    // Silence counts between ticks, but not that of a process which was itself asleep.
    for (int i = 0; i < 400 && core_.operations_in_flight() > 0; ++i) {
      now_ += std::chrono::seconds(1);
      core_.OnTick(now_, out_);
      Settle();
    }
    SHEAF_CHECK(core_.operations_in_flight() == 0, "waits for ever: ", core_.WaitingFor(now_));
    SHEAF_CHECK(open_.empty(), open_.size(), " operations never ended");
  }

 private:
  void Act(const pb::Event& event) {
    const auto pulled = [&] {
      std::vector<TableKeys> tables;
      for (const pb::Block& block : event.header().pull().block()) {
        tables.push_back({TableId(block.table()), KeysOf(block.keys().signature_low())});
      }
      return tables;
    };
    const auto pushed = [&] {
      std::vector<TableGradients> tables;
      for (const pb::Block& block : event.header().push().block()) {
        const KeyVector keys = KeysOf(block.keys().signature_low());
        const size_t dim = block.table() >= 3 ? block.table() - 1 : 1;  // of SmallCluster's tables 1 to 4
        tables.push_back(
            {TableId(block.table()), keys, std::vector<float>(std::min<size_t>(dim, 8) * keys->size(), 1.0F)});
      }
      return tables;
    };
    const pb::PushRequest& push = event.header().push();
    PushOptions options;
    if (push.has_progress()) options.progress = push.progress();
    options.identity = {push.stream_high(), push.stream_low(), push.seq()};
    if (push.block_size() > 0) options.codec = push.block(0).codec();
    switch (event.act()) {
      case pb::Event::PULL: {
        PullOptions pull;
        if (event.header().pull().has_progress()) pull.progress = event.header().pull().progress();
        if (event.header().pull().block_size() > 0) pull.codec = event.header().pull().block(0).codec();
        open_.insert(core_.Pull(pulled(), std::move(pull), now_, out_));
        break;
      }
      case pb::Event::PUSH:
        open_.insert(core_.Push(pushed(), std::move(options), now_, out_));
        break;
      case pb::Event::PUSH_PULL:
        open_.insert(core_.PushPull(pushed(), std::move(options), now_, out_));
        break;
      case pb::Event::SCAN: {
        const pb::ScanRequest& scan = event.header().scan();
        open_.insert(core_.Scan(TableId(scan.table()), PartitionId(scan.partition()),
                                scan.resume() ? std::optional(scan.after_key()) : std::nullopt, scan.max_rows(), now_,
                                out_));
        break;
      }
      case pb::Event::CANCEL:
        if (open_.empty()) break;
        core_.Cancel(*open_.rbegin());
        cancelled_.insert(*open_.rbegin());
        open_.erase(std::prev(open_.end()));
        break;
      case pb::Event::CONFIG:
        core_.OnConfig(event.header().config());
        break;
      default:
        break;
    }
  }

  void Settle() {
    sent_.Take(out_);
    const auto ended = [&](OperationId operation) {
      // One that ended before it was cancelled may still be told of.
      SHEAF_CHECK(open_.erase(operation) + cancelled_.erase(operation) == 1, "operation ", operation, " ended twice");
    };
    for (const Completion& completion : core_.TakeCompletions()) ended(completion.operation);
    for (const PsClient::ScanResult& scan : core_.TakeScans()) {
      ended(scan.operation);
      SHEAF_CHECK(scan.keys.empty() || scan.values.size() % scan.keys.size() == 0);
    }
    (void)core_.WaitingFor(now_);
  }

  PsClient core_;
  TimePoint now_{};
  Outbox out_;
  Correspondence sent_;
  std::set<OperationId> open_, cancelled_;
};

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto conversation = sheaf::ParseConversation(data, size);
  if (!conversation) return 0;
  sheaf::Client client;
  for (const auto& event : conversation->event()) client.Hear(event);
  client.End();
  return 0;
}
