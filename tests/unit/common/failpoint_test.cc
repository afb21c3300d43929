#include "common/base/failpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

// A process looks once at where files are, so each child is a new process, with what is in its environment.
TEST(Failpoint, KillsOneProcessForAFileAndNoneWithout) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TempFolder folder;
  const std::string file = folder.path() + "/folder.named";
  if (getenv("SHEAF_FAILPOINTS") == nullptr) {
    std::ofstream(file) << "";
    setenv("SHEAF_FAILPOINTS", folder.path().c_str(), 1);
  }
  const auto child = [] {
    Pass("folder.unnamed");
    Pass("folder.named");
    std::exit(7);
  };
  EXPECT_EXIT(child(), testing::KilledBySignal(SIGKILL), "");
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EXIT(child(), testing::ExitedWithCode(7), "");
  unsetenv("SHEAF_FAILPOINTS");
}

}  // namespace
}  // namespace sheaf
