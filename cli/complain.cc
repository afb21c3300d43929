#include "cli/complain.h"

#include <cstdio>

#include "cli/terminal.h"

namespace sheaf::cli {

int Complain(int exit_code, const std::string& text) {
  std::fflush(stdout);
  std::fprintf(stderr, "sheaf: %s\n", Printable(text).c_str());
  return exit_code;
}

int Complain(const Error& error) {
  return Complain(error.code == ErrorCode::kCancelled ? kExitInterrupted : ExitCodeOf(error.code), error.message);
}

}  // namespace sheaf::cli
