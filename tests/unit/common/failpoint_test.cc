#include "common/base/failpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

TEST(Failpoint, KillsOneProcessForAFileAndNoneWithout) {
  const TempFolder folder;
  const std::string file = folder.path() + "/folder.named";
  std::ofstream(file) << "";
  const auto child = [&] {
    setenv("SHEAF_FAILPOINTS", folder.path().c_str(), 1);
    Pass("folder.unnamed");
    Pass("folder.named");
    std::exit(7);
  };
  EXPECT_EXIT(child(), testing::KilledBySignal(SIGKILL), "");
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EXIT(child(), testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace sheaf
