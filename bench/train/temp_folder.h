// A folder of our own below the system's temporary one, gone when this object is.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/base/check.h"

namespace sheaf::bench {

class TempFolder {
 public:
  TempFolder() : path_(std::filesystem::temp_directory_path() / "sheaf-bench-XXXXXX") {
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

}  // namespace sheaf::bench
