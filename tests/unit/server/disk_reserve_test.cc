// Room on a disk that is kept for when there is none.
#include "server/disk_reserve.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

class DiskReserveTest : public ::testing::Test {
 protected:
  const TempFolder temp_;
  const std::string folder_ = temp_.path();
};

TEST_F(DiskReserveTest, TakesItsRoomAndGivesItUp) {
  DiskReserve reserve(folder_ + "/reserve", 1 << 20);
  EXPECT_FALSE(reserve.taken());
  ASSERT_TRUE(reserve.Take(1));
  EXPECT_EQ(std::filesystem::file_size(folder_ + "/reserve"), 1U << 20);
  EXPECT_TRUE(reserve.Take(1)) << "it has it";
  reserve.GiveUp();
  EXPECT_FALSE(reserve.taken());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/reserve"));
  EXPECT_TRUE(reserve.Take(1));
}

TEST_F(DiskReserveTest, TakesNoRoomThatOthersNeed) {
  DiskReserve reserve(folder_ + "/reserve", 1 << 20);
  EXPECT_FALSE(reserve.Take(std::numeric_limits<uint64_t>::max() >> 20));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/reserve"));
}

TEST_F(DiskReserveTest, IsNoneWhereThereIsNoFolder) {
  EXPECT_FALSE(DiskReserve(folder_ + "/gone/reserve", 1 << 20).Take(1));
}

}  // namespace
}  // namespace sheaf
