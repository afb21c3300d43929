#include "common/net/body_pool.h"

#include <algorithm>

#include "common/base/partition.h"

namespace sheaf {
namespace {

constexpr size_t kKept = 8;      // bodies of a kind: as many answers as usually wait in an outbox
constexpr int kMostBlocks = 16;  // tables of a request: each block keeps the longest list it ever had

bool IsLong(const auto& list) { return list.size() > static_cast<int>(kMaxPartitions); }

// A number a partition is what lists are for; a peer that sends more than that is not to leave its memory here.
bool IsLarge(const pb::PullReply& body) { return IsLong(body.lsn()); }
bool IsLarge(const pb::PushReply& body) { return IsLong(body.lsn()); }
bool HasLargeBlocks(const auto& body) {
  return body.block_size() > kMostBlocks || IsLong(body.partition()) || IsLong(body.epoch()) ||
         std::ranges::any_of(body.block(), [](const pb::Block& block) { return IsLong(block.key_count()); });
}
bool IsLarge(const pb::PullRequest& body) { return HasLargeBlocks(body) || IsLong(body.min_lsn()); }
bool IsLarge(const pb::PushRequest& body) { return HasLargeBlocks(body); }

template <typename Body>
Body* TakeSpare(std::vector<std::unique_ptr<Body>>& spares) {
  Body* const body = spares.back().release();
  spares.pop_back();
  return body;
}

template <typename Body>
void Keep(std::unique_ptr<Body> body, std::vector<std::unique_ptr<Body>>& spares) {
  // Mutable: the set of a body that has none is one of libprotobuf's for all threads, behind a lock that
  // ThreadSanitizer does not see.
  if (spares.size() == kKept || !body->mutable_unknown_fields()->empty() || IsLarge(*body)) return;
  body->Clear();
  spares.push_back(std::move(body));
}

}  // namespace

void BodyPool::Reuse(pb::Header::BodyCase kind, pb::Header& header) {
  switch (kind) {
    case pb::Header::kPull:
      if (!pulls_.empty()) header.set_allocated_pull(TakeSpare(pulls_));
      return;
    case pb::Header::kPullReply:
      if (!pull_replies_.empty()) header.set_allocated_pull_reply(TakeSpare(pull_replies_));
      return;
    case pb::Header::kPush:
      if (!pushes_.empty()) header.set_allocated_push(TakeSpare(pushes_));
      return;
    case pb::Header::kPushReply:
      if (!push_replies_.empty()) header.set_allocated_push_reply(TakeSpare(push_replies_));
      return;
    default:
      return;
  }
}

void BodyPool::Recycle(pb::Header& header) {
  switch (header.body_case()) {
    case pb::Header::kPull:
      return Keep(std::unique_ptr<pb::PullRequest>(header.release_pull()), pulls_);
    case pb::Header::kPullReply:
      return Keep(std::unique_ptr<pb::PullReply>(header.release_pull_reply()), pull_replies_);
    case pb::Header::kPush:
      return Keep(std::unique_ptr<pb::PushRequest>(header.release_push()), pushes_);
    case pb::Header::kPushReply:
      return Keep(std::unique_ptr<pb::PushReply>(header.release_push_reply()), push_replies_);
    default:
      return;
  }
}

}  // namespace sheaf
