// A folder of a test's or a benchmark's own, gone with all that is in it when the object is. The process ends if it
// cannot be made: what runs for users says what is wrong instead.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "common/base/check.h"

namespace sheaf {

class TempFolder {
 public:
  TempFolder() : path_(std::filesystem::temp_directory_path() / "sheaf-XXXXXX") {
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
