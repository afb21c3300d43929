// How `sheaf` ends: one message on stderr and an exit status (common/runtime/exit_codes.h) that scripts rely on.
#pragma once

#include <string>

#include "common/base/result.h"
#include "common/runtime/exit_codes.h"

namespace sheaf::cli {

inline constexpr int kExitInterrupted = 130;  // Ctrl-C

// Prints "sheaf: TEXT" and returns the status.
int Complain(int exit_code, const std::string& text);
int Complain(const Error& error);

}  // namespace sheaf::cli
