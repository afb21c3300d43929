#include "cli/args.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "cli/nearest.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

std::string WithUnderscores(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

const Option* FindOption(const CommandLine& command, const std::string& name) {
  for (const Option& option : command.options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}
const Option* FindLetter(const CommandLine& command, char letter) {
  for (const Option& option : command.options) {
    if (option.letter == letter && letter != 0) return &option;
  }
  return nullptr;
}

std::string Shown(double number) {
  if (std::abs(number) < 1e15 && number == std::floor(number)) return std::to_string(static_cast<int64_t>(number));
  return StrCat(number);
}

Status CheckValue(const CommandLine& command, const Option& option, const std::string& value) {
  const auto fail = [&](const std::string& why) {
    return Fail(ErrorCode::kInvalidArgument, command.name, ": --", option.name, " ", value, ": ", why);
  };
  if (value.empty()) {
    return Fail(ErrorCode::kInvalidArgument, command.name, ": --", option.name, " must not be empty: --", option.name,
                " ", option.value_name);
  }
  if (option.kind == Option::kInteger || option.kind == Option::kNumber) {
    double number = 0;
    const char* end = value.data() + value.size();
    std::from_chars_result parsed{};
    if (option.kind == Option::kInteger) {
      int64_t whole = 0;
      parsed = std::from_chars(value.data(), end, whole);
      number = static_cast<double>(whole);
    } else {
      parsed = std::from_chars(value.data(), end, number);
    }
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return fail(option.kind == Option::kInteger ? "not a whole number" : "not a number");
    }
    if (!(number >= option.least && number <= option.most)) {
      return fail("must be from " + Shown(option.least) + " to " + Shown(option.most));
    }
  }
  if (!option.choices.empty() &&
      std::find(option.choices.begin(), option.choices.end(), value) == option.choices.end()) {
    return fail("no such value" + Suggestion(value, option.choices));
  }
  return {};
}

bool IsOption(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

}  // namespace

Result<Args> Args::Parse(const CommandLine& command, const std::vector<std::string>& words) {
  Args args;
  for (const Option& option : command.options) args.fallbacks_[option.name] = option.fallback;
  bool options_ended = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (options_ended || !IsOption(word)) {
      args.operands_.push_back(word);
      continue;
    }
    if (word == "--") {
      options_ended = true;
      continue;
    }
    if (word == "--help" || word == "-h") {
      args.help_ = true;
      return args;
    }
    const bool is_long = word.starts_with("--");
    const size_t equals = is_long ? word.find('=') : std::string::npos;
    const std::string typed =
        is_long ? word.substr(2, equals == std::string::npos ? equals : equals - 2) : word.substr(1);
    const Option* option = is_long ? FindOption(command, WithUnderscores(typed))
                                   : (typed.size() == 1 ? FindLetter(command, typed[0]) : nullptr);
    if (option == nullptr) {
      std::vector<std::string> names;
      for (const Option& known : command.options) names.push_back("--" + known.name);
      return Fail(ErrorCode::kInvalidArgument, command.name, ": no option ", is_long ? "--" : "-", typed,
                  Suggestion("--" + typed, names));
    }
    auto& values = args.values_[option->name];
    if (option->kind == Option::kFlag) {
      if (equals != std::string::npos) {
        return Fail(ErrorCode::kInvalidArgument, command.name, ": --", option->name, " takes no value");
      }
      values.emplace_back("true");
      continue;
    }
    if (equals != std::string::npos) {
      values.push_back(word.substr(equals + 1));
      SHEAF_RETURN_IF_ERROR(CheckValue(command, *option, values.back()));
      continue;
    }
    // A negative number or "-" is a value, not an option.
    const auto is_value = [&](const std::string& next) {
      return !IsOption(next) || (option->kind != Option::kFlag && option->kind != Option::kList && next.size() > 1 &&
                                 (std::isdigit(static_cast<unsigned char>(next[1])) != 0));
    };
    if (i + 1 >= words.size() || !is_value(words[i + 1])) {
      return Fail(ErrorCode::kInvalidArgument, command.name, ": --", option->name, " needs a value: --", option->name,
                  " ", option->value_name);
    }
    do {
      values.push_back(words[++i]);
      SHEAF_RETURN_IF_ERROR(CheckValue(command, *option, values.back()));
    } while (option->greedy && i + 1 < words.size() && is_value(words[i + 1]));
  }
  if (args.operands_.size() < command.least_operands) {
    return Fail(ErrorCode::kInvalidArgument, command.name, ": ", command.operands, " is missing");
  }
  if (args.operands_.size() > command.most_operands) {
    return Fail(ErrorCode::kInvalidArgument, command.name,
                ": one argument too many: ", args.operands_[command.most_operands]);
  }
  return args;
}

const std::string& Args::Text(const std::string& option) const {
  const auto given = values_.find(option);
  if (given != values_.end()) return given->second.back();
  const auto fallback = fallbacks_.find(option);
  SHEAF_CHECK(fallback != fallbacks_.end(), "the command has no option --", option);
  return fallback->second;
}

int64_t Args::Integer(const std::string& option) const {
  const std::string& text = Text(option);
  int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

double Args::Number(const std::string& option) const {
  const std::string& text = Text(option);
  double number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::vector<std::string> Args::List(const std::string& option) const {
  const auto given = values_.find(option);
  return given == values_.end() ? std::vector<std::string>() : given->second;
}

std::string HelpText(const CommandLine& command) {
  std::string text = command.name + " - " + command.summary + "\n\nusage: " + command.name;
  if (!command.operands.empty()) text += " " + command.operands;
  text += command.options.empty() ? "\n" : " [options]\n\n";
  std::vector<std::string> left;
  size_t width = 0;
  for (const Option& option : command.options) {
    std::string name = option.letter != 0 ? std::string("  -") + option.letter + ", --" : "  --";
    name += option.name + (option.kind == Option::kFlag ? "" : " " + option.value_name);
    if (option.kind == Option::kList) name += "...";
    width = std::max(width, name.size());
    left.push_back(std::move(name));
  }
  for (size_t i = 0; i < command.options.size(); ++i) {
    const Option& option = command.options[i];
    text += left[i] + std::string(width - left[i].size() + 2, ' ') + option.help;
    if (!option.fallback.empty()) text += " (default " + option.fallback + ")";
    text += "\n";
  }
  if (!command.notes.empty()) text += "\n" + command.notes;
  return text;
}

}  // namespace sheaf::cli
