// A FileSpace on a file system.
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/checkpoint/file_space.h"

namespace sheaf {

enum class IfAbsent { kMake, kFail };
// kNotFound: there is no such folder.
Result<std::unique_ptr<FileSpace>> OpenDiskSpace(const std::string& root, IfAbsent if_absent);

}  // namespace sheaf
