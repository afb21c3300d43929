#include "common/net/body_pool.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

pb::Header PushOf(int blocks) {
  pb::Header header;
  header.mutable_push()->set_seq(4);
  header.mutable_push()->mutable_progress()->set_clock(5);
  for (int i = 0; i < blocks; ++i) header.mutable_push()->add_block()->add_key_count(6);
  return header;
}

TEST(BodyPool, GivesABodyOfTheKindOutAgainEmpty) {
  BodyPool pool;
  pb::Header header = PushOf(1);
  const pb::PushRequest* const body = &header.push();
  pool.Recycle(header);
  EXPECT_EQ(header.body_case(), pb::Header::BODY_NOT_SET);

  pool.Reuse(pb::Header::kPull, header);
  EXPECT_EQ(header.body_case(), pb::Header::BODY_NOT_SET);
  pool.Reuse(pb::Header::kPush, header);
  ASSERT_TRUE(header.has_push());
  EXPECT_EQ(&header.push(), body);
  EXPECT_EQ(header.push().SerializeAsString(), "");
  pb::Header another;
  pool.Reuse(pb::Header::kPush, another);
  EXPECT_EQ(another.body_case(), pb::Header::BODY_NOT_SET);
}

TEST(BodyPool, LeavesBodiesOfOtherKindsAlone) {
  BodyPool pool;
  pb::Header header;
  pool.Recycle(header);
  header.mutable_scan()->set_table(3);
  pool.Recycle(header);
  EXPECT_EQ(header.scan().table(), 3U);
}

TEST(BodyPool, KeepsNoBodyOfManyBlocks) {
  BodyPool pool;
  pb::Header header = PushOf(10'000);
  pool.Recycle(header);
  pool.Reuse(pb::Header::kPush, header);
  EXPECT_EQ(header.body_case(), pb::Header::BODY_NOT_SET);
}

TEST(BodyPool, KeepsNoBodyOfLongLists) {
  const auto long_list = [](auto& list) { list.Resize(5000, 1); };
  std::vector<pb::Header> headers(5);
  long_list(*headers[0].mutable_push()->mutable_partition());
  long_list(*headers[1].mutable_push()->add_block()->mutable_key_count());
  long_list(*headers[2].mutable_pull()->mutable_min_lsn());
  long_list(*headers[3].mutable_pull_reply()->mutable_lsn());
  long_list(*headers[4].mutable_push_reply()->mutable_lsn());
  for (pb::Header& header : headers) {
    BodyPool pool;
    const pb::Header::BodyCase kind = header.body_case();
    pool.Recycle(header);
    pb::Header next;
    pool.Reuse(kind, next);
    EXPECT_EQ(next.body_case(), pb::Header::BODY_NOT_SET) << kind;
  }
}

TEST(BodyPool, KeepsAFewBodiesOfAKind) {
  BodyPool pool;
  for (int i = 0; i < 100; ++i) {
    pb::Header header;
    header.mutable_pull_reply()->add_lsn(1);
    pool.Recycle(header);
  }
  int kept = 0;
  for (bool more = true; more; ++kept) {
    pb::Header header;
    pool.Reuse(pb::Header::kPullReply, header);
    more = header.has_pull_reply();
  }
  EXPECT_GT(kept, 2);
  EXPECT_LT(kept, 20);
}

}  // namespace
}  // namespace sheaf
