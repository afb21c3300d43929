#include "common/runtime/flags_env.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <set>
#include <string_view>

#include "common/base/build_info.h"
#include "common/base/strings.h"
#include "common/runtime/exit_codes.h"

namespace sheaf {
namespace {

using gflags::CommandLineFlagInfo;
using FlagMap = std::map<std::string, CommandLineFlagInfo>;

// Flags that gflags defines for its own parser, which we do not use, and those of RocksDB's tools.
bool IsNobodys(const CommandLineFlagInfo& flag) {
  return flag.filename.find("gflags") != std::string::npos || flag.filename.starts_with("./tools/");
}

// Not glog's: libraries are built in their own root, "./src/logging.cc". (Our own file names depend on where the build
// lies and on ccache, which may make some of them relative: they cannot be told by their beginning.)
bool IsOurs(const CommandLineFlagInfo& flag) { return !IsNobodys(flag) && !flag.filename.starts_with("./src/"); }

FlagMap KnownFlags() {
  std::vector<CommandLineFlagInfo> all;
  gflags::GetAllFlags(&all);
  FlagMap known;
  for (CommandLineFlagInfo& flag : all) {
    if (!IsNobodys(flag)) known.emplace(flag.name, std::move(flag));
  }
  return known;
}

// Flags may be written with dashes too: --shard-count is --shard_count.
std::string Canonical(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
}

std::string EnvironmentName(const std::string& flag) { return "SHEAF_" + ToUpper(flag); }

// "a whole number", for people.
std::string Kind(const CommandLineFlagInfo& flag) {
  if (flag.type == "bool") return "true or false";
  if (flag.type == "double") return "a number";
  if (flag.type == "string") return "a text that it takes";
  return flag.type.starts_with("u") ? "a whole number of 0 or more" : "a whole number";
}

struct Setting {
  std::string flag;
  std::string value;
  std::string source;  // as the user wrote it, for errors
};

class CommandLine {
 public:
  explicit CommandLine(const FlagMap& known) : known_(known) {
    for (const auto& [name, flag] : known) {
      if (IsOurs(flag)) names_.push_back(name);
    }
  }

  // Sorts the words into settings and arguments. kInvalidArgument: the first wrong one.
  Status Read(int argc, const char* const* argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view word = argv[i];
      if (word == "--") {
        arguments.insert(arguments.end(), argv + i + 1, argv + argc);
        return {};
      }
      const bool is_number = word.size() > 1 && (word[1] == '.' || (word[1] >= '0' && word[1] <= '9'));
      if (!word.starts_with('-') || word == "-" || is_number) {
        arguments.emplace_back(word);
        continue;
      }
      const char* const next = i + 1 < argc ? argv[i + 1] : nullptr;
      SHEAF_ASSIGN_OR_RETURN(const bool took_next, ReadFlag(word, next));
      if (took_next) ++i;
    }
    return {};
  }

  std::vector<Setting> settings;
  std::vector<std::string> arguments;
  bool help = false;
  bool version = false;

 private:
  Result<bool> ReadFlag(std::string_view word, const char* next) {
    const std::string_view body = word.substr(word.starts_with("--") ? 2 : 1);
    const size_t equals = body.find('=');
    const std::string name = Canonical(body.substr(0, equals));
    const bool has_value = equals != std::string_view::npos;
    if (!has_value && (name == "help" || name == "h")) return help = true, false;
    if (!has_value && name == "version") return version = true, false;

    const auto flag = known_.find(name);
    if (flag == known_.end()) {
      const auto positive = name.starts_with("no") ? known_.find(name.substr(2)) : known_.end();
      if (positive == known_.end() || positive->second.type != "bool" || has_value) {
        return Fail(ErrorCode::kInvalidArgument, "unknown flag ", word.substr(0, word.find('=')),
                    DidYouMean(name, names_, "--"));
      }
      settings.push_back({positive->first, "false", std::string(word)});
      return false;
    }
    if (has_value) {
      settings.push_back({name, std::string(body.substr(equals + 1)), "--" + name});
    } else if (flag->second.type == "bool") {
      settings.push_back({name, "true", "--" + name});
    } else if (next != nullptr) {
      settings.push_back({name, next, "--" + name});
      return true;
    } else {
      return Fail(ErrorCode::kInvalidArgument, "--", name, " needs a value: --", name, "=", Kind(flag->second));
    }
    return false;
  }

  const FlagMap& known_;
  std::vector<std::string> names_;
};

// What the environment sets, except flags that the command line sets too.
std::vector<Setting> EnvironmentSettings(const FlagMap& known, const std::vector<Setting>& command_line) {
  std::set<std::string> given;
  for (const Setting& setting : command_line) given.insert(setting.flag);
  std::vector<Setting> settings;
  for (const auto& [name, flag] : known) {
    const std::string variable = EnvironmentName(name);
    const char* const value = std::getenv(variable.c_str());
    if (value != nullptr && !given.contains(name)) settings.push_back({name, value, variable});
  }
  return settings;
}

Status Apply(const std::vector<Setting>& settings, const FlagMap& known) {
  for (const Setting& setting : settings) {
    if (gflags::SetCommandLineOption(setting.flag.c_str(), setting.value.c_str()).empty()) {
      return Fail(ErrorCode::kInvalidArgument, setting.source, ": \"", setting.value, "\" is not ",
                  Kind(known.at(setting.flag)));
    }
  }
  return {};
}

void PrintHelp(const ProgramUsage& usage, const FlagMap& known, std::ostream& out) {
  out << "usage: " << usage.name << " " << usage.usage << "\n";
  if (!usage.summary.empty()) out << "\n" << usage.summary << "\n";
  out << "\nflags (each also as an environment variable, SHEAF_<NAME>):\n";
  for (const auto& [name, flag] : known) {
    if (!IsOurs(flag)) continue;
    const bool is_text = flag.type == "string";
    const std::string value = is_text ? (flag.default_value.empty() ? "\"\"" : flag.default_value) : flag.default_value;
    out << "  --" << name << "=" << value << "\n      " << flag.description << "\n";
  }
  out << "  --help, --version\n";
}

}  // namespace

ParsedFlags ParseFlags(int argc, const char* const* argv, const ProgramUsage& usage) {
  return ParseFlags(argc, argv, usage, std::cout, std::cerr);
}

ParsedFlags ParseFlags(int argc, const char* const* argv, const ProgramUsage& usage, std::ostream& out,
                       std::ostream& err) {
  const FlagMap known = KnownFlags();
  CommandLine command_line(known);
  Status status = command_line.Read(argc, argv);
  if (status && command_line.help) {
    PrintHelp(usage, known, out);
    return {.exit_code = kExitOk, .arguments = {}};
  }
  if (status && command_line.version) {
    out << usage.name << ": " << BuildText() << "\n";
    return {.exit_code = kExitOk, .arguments = {}};
  }
  if (status) status = Apply(EnvironmentSettings(known, command_line.settings), known);
  if (status) status = Apply(command_line.settings, known);
  if (status && !usage.takes_arguments && !command_line.arguments.empty()) {
    status =
        Fail(ErrorCode::kInvalidArgument, "\"", command_line.arguments.front(), "\" is no flag: flags begin with --");
  }
  if (!status) {
    err << usage.name << ": " << status.error().message << " (--help lists the flags)\n";
    return {.exit_code = kExitUsage, .arguments = {}};
  }
  return {.exit_code = std::nullopt, .arguments = std::move(command_line.arguments)};
}

}  // namespace sheaf
