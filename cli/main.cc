// sheaf: what people use. See `sheaf help`.
#include "cli/commands.h"
#include "common/runtime/file_limit.h"

int main(int argc, char** argv) {
  sheaf::RaiseFileLimit();
  return sheaf::cli::RunCommandLine(argc, argv);
}
