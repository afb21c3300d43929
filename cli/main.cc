// sheaf: what people use. See `sheaf help`.
#include "cli/commands.h"

int main(int argc, char** argv) { return sheaf::cli::RunCommandLine(argc, argv); }
