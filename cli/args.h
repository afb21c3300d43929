// The command line of one subcommand: options, ranges, help text. (gflags knows no subcommands.)
//
// `--name value` and `--name=value`; '-' and '_' in names are the same; `--` ends the options. An error is one line
// that names the nearest option.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace sheaf::cli {

struct Option {
  enum Kind {
    kFlag,
    kText,
    kList,
    kInteger,
    kNumber
  };                 // kList may be given again, and takes several values at once if greedy
  std::string name;  // as in --log_dir
  Kind kind = kText;
  std::string value_name{};  // in the help text
  std::string fallback{};    // the default; empty: none
  std::string help;
  double least = 0;  // kInteger, kNumber: the allowed range
  double most = 1e18;
  std::vector<std::string> choices{};  // kText: the allowed values, if not empty
  bool greedy = false;                 // kList: takes every value up to the next option
  char letter = 0;                     // as in -o
};

struct CommandLine {
  std::string name;        // "sheaf run"
  std::string operands{};  // "JOB.textproto", for the usage line
  std::string summary;     // one line
  size_t least_operands = 0;
  size_t most_operands = 0;
  std::vector<Option> options{};
  std::string notes{};  // further paragraphs of the help text
};

class Args {
 public:
  // kInvalidArgument: one line that says what is wrong.
  static Result<Args> Parse(const CommandLine& command, const std::vector<std::string>& words);

  const std::vector<std::string>& operands() const { return operands_; }
  bool Given(const std::string& option) const { return values_.contains(option); }
  bool Flag(const std::string& option) const { return Given(option); }
  // The last value given, else the default.
  const std::string& Text(const std::string& option) const;
  int64_t Integer(const std::string& option) const;
  double Number(const std::string& option) const;
  std::vector<std::string> List(const std::string& option) const;
  bool help() const { return help_; }

 private:
  std::map<std::string, std::vector<std::string>> values_;
  std::map<std::string, std::string> fallbacks_;
  std::vector<std::string> operands_;
  bool help_ = false;
};

std::string HelpText(const CommandLine& command);

}  // namespace sheaf::cli
