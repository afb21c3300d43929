// Fields set from outside the job file: --set and the environment.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "cli/job_file.h"
#include "cli/job_text_context.h"
#include "cli/nearest.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr char kPrefix[] = "SHEAF_JOB_";

// As Split, but that of nothing is one empty piece: a field without a name.
std::vector<std::string> PiecesOf(const std::string& text, char separator) {
  const std::vector<std::string_view> pieces = Split(text, separator);
  if (pieces.empty()) return {""};
  return {pieces.begin(), pieces.end()};
}

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string Unquoted(const std::string& text) {
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front()) {
    return text.substr(1, text.size() - 2);
  }
  return text == "\\t" ? "\t" : text;  // the one escape that separators need
}

template <typename Number>
std::optional<Number> ParseNumber(const std::string& text) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

std::optional<bool> ParseBool(const std::string& text) {
  const std::string upper = Upper(text);
  if (upper == "TRUE" || upper == "1") return true;
  if (upper == "FALSE" || upper == "0") return false;
  return std::nullopt;
}

// Sets or (repeated fields) adds one value. False: it does not fit the field's type.
bool Put(Message& message, const FieldDescriptor* field, const std::string& text) {
  const Reflection* reflection = message.GetReflection();
  const auto put = [&](const auto& value, auto set, auto add) {
    if (!value) return false;
    field->is_repeated() ? (reflection->*add)(&message, field, *value) : (reflection->*set)(&message, field, *value);
    return true;
  };
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return put(ParseNumber<uint32_t>(text), &Reflection::SetUInt32, &Reflection::AddUInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return put(ParseNumber<uint64_t>(text), &Reflection::SetUInt64, &Reflection::AddUInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return put(ParseNumber<double>(text), &Reflection::SetDouble, &Reflection::AddDouble);
    case FieldDescriptor::CPPTYPE_BOOL:
      return put(ParseBool(text), &Reflection::SetBool, &Reflection::AddBool);
    case FieldDescriptor::CPPTYPE_STRING:
      field->is_repeated() ? reflection->AddString(&message, field, Unquoted(text))
                           : reflection->SetString(&message, field, Unquoted(text));
      return true;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field->enum_type()->FindValueByName(Upper(text));
      if (value == nullptr) return false;
      field->is_repeated() ? reflection->AddEnum(&message, field, value) : reflection->SetEnum(&message, field, value);
      return true;
    }
    default:
      return false;
  }
}

}  // namespace

Status SetField(const std::string& path, const std::string& value, const std::string& origin, JobFile& job) {
  Message* message = &job.spec;
  const std::vector<std::string> steps = PiecesOf(path, '.');
  for (size_t i = 0; i < steps.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(steps[i]);
    if (field == nullptr) {
      return Fail(ErrorCode::kInvalidArgument, origin, ": no field \"", steps[i], "\" in ",
                  message->GetDescriptor()->name(), Suggestion(steps[i], FieldNames(*message->GetDescriptor())));
    }
    const bool last = i + 1 == steps.size();
    const bool nested = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (nested && last) {
      std::string names;
      for (const std::string& name : FieldNames(*field->message_type())) names += " " + path + "." + name;
      return Fail(ErrorCode::kInvalidArgument, origin, ": ", path, " is a group of fields; set one of:", names);
    }
    if (!nested && !last) {
      return Fail(ErrorCode::kInvalidArgument, origin, ": ", steps[i], " has no fields, so \"", path,
                  "\" names nothing");
    }
    if (nested) {
      message = message->GetReflection()->MutableMessage(message, field);
      continue;
    }
    message->GetReflection()->ClearField(message, field);
    std::erase_if(job.origins, [&](const auto& entry) { return entry.first.starts_with(path + "["); });
    const std::vector<std::string> values = !field->is_repeated() ? std::vector{value}
                                            : value.empty()       ? std::vector<std::string>()
                                                                  : PiecesOf(value, ',');
    for (const std::string& one : values) {
      if (Put(*message, field, one)) continue;
      const bool named = field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
      return Fail(
          ErrorCode::kInvalidArgument, origin, ": ", path, ": ", named ? "no value \"" : "\"", one,
          named ? "\"" + Suggestion(one, ValueNames(*field->enum_type())) : "\" is not " + ExpectedValue(*field));
    }
    job.origins[path] = origin;
  }
  return {};
}

Status ApplySetting(const std::string& setting, JobFile& job) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Fail(ErrorCode::kInvalidArgument, "--set ", setting, ": must be FIELD=VALUE, such as train.batch_size=64");
  }
  return SetField(setting.substr(0, equals), setting.substr(equals + 1), "--set " + setting, job);
}

Environment JobEnvironment(const char* const* environ) {
  Environment found;
  for (; environ != nullptr && *environ != nullptr; ++environ) {
    const std::string entry = *environ;
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || !entry.starts_with(kPrefix)) continue;
    found.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  std::sort(found.begin(), found.end());
  return found;
}

Status ApplyEnvironment(const Environment& environment, JobFile& job) {
  for (const auto& [name, value] : environment) {
    std::string path;
    for (size_t i = std::strlen(kPrefix); i < name.size(); ++i) {
      if (name.compare(i, 2, "__") == 0) {
        path += '.';
        ++i;
      } else {
        path += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
      }
    }
    SHEAF_RETURN_IF_ERROR(SetField(path, value, "environment " + name, job));
  }
  return {};
}

}  // namespace sheaf::cli
