// A folder of a test's own, gone with all that is in it when the test is over.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "common/base/check.h"

namespace sheaf {

class TempFolder {
 public:
  TempFolder() : path_(std::filesystem::temp_directory_path() / "sheaf-test-XXXXXX") {
    SHEAF_CHECK(mkdtemp(path_.data()) != nullptr, "cannot make ", path_);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace sheaf
