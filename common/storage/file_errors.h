// What went wrong with a file, from errno; and folders that are there after a crash.
#pragma once

#include <string>

#include "common/base/result.h"

namespace sheaf {

// "cannot write /data/x: No space left on device". kResourceExhausted: full disk or quota; kPermissionDenied; kIo.
Failure FileError(const char* act, const std::string& path);

// With its parents.
Status MakeFolders(const std::string& path);
// Names made, given or removed in the folder survive the loss of power.
Status SyncFolder(const std::string& path);

}  // namespace sheaf
