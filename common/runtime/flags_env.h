// Flags of a program, from the command line and the environment.
//
// Flags are defined with gflags (DEFINE_string ...) in main.cc. Each can also be given as the environment variable
// SHEAF_<NAME IN UPPER CASE>; the command line wins. A wrong flag is one line on stderr and exit code 2.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace sheaf {

struct ProgramUsage {
  std::string name;      // sheaf-server
  std::string usage;     // "[--scheduler=ADDRESS] [flags]": what follows the name in the usage line
  std::string summary;   // a sentence or more for --help
  bool takes_arguments = false;  // words that are not flags; else each of them is a mistake
};

struct ParsedFlags {
  std::optional<int> exit_code = {};    // set: end with it now (--help, --version, a wrong flag)
  std::vector<std::string> arguments = {};  // what is not a flag, in order; after "--" everything
};

// --help prints usage, summary and our own flags with their defaults; --version what this build is.
ParsedFlags ParseFlags(int argc, const char* const* argv, const ProgramUsage& usage);
// The same, printing to streams of the caller's (tests).
ParsedFlags ParseFlags(int argc, const char* const* argv, const ProgramUsage& usage, std::ostream& out,
                       std::ostream& err);

}  // namespace sheaf
