// Files and folders that are there after a crash, and what went wrong with them.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace sheaf {

// What errno says: "cannot write /data/x: No space left on device". kResourceExhausted: full disk or quota;
// kPermissionDenied; kIo.
Failure FileError(const char* act, const std::string& path);

// With its parents.
Status MakeFolders(const std::string& path);
// Names made, given or removed in the folder survive the loss of power.
Status SyncFolder(const std::string& path);

// kNotFound if there is no such file; kInvalidArgument if it has more than `max_bytes`.
Result<std::string> ReadSmallFile(const std::string& path, size_t max_bytes);
// The file has these bytes, or those that it had, whenever the power is lost. Uses PATH.tmp.
Status ReplaceFile(const std::string& path, std::string_view bytes);

}  // namespace sheaf
