#include "cli/job_text_context.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cctype>

#include "cli/nearest.h"
#include "proto/job.pb.h"

namespace sheaf::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;

struct Context {
  const Descriptor* message = nullptr;     // null: inside a field that does not exist
  const FieldDescriptor* field = nullptr;  // whose value is being read, if any
};

// Byte offset of a tokenizer's position: it counts a tab as up to the next multiple of 8.
size_t OffsetOf(const std::string& text, int line, int column) {
  size_t at = 0;
  for (int i = 0; i < line && at < text.size(); ++i) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) return text.size();
    at = end + 1;
  }
  for (int i = 0; i < column && at < text.size() && text[at] != '\n'; ++at)
    i = text[at] == '\t' ? (i / 8 + 1) * 8 : i + 1;
  return at;
}

// Walks the text as far as `end`, keeping the stack of open messages; the text may fail to parse at `end`.
Context ContextAt(const std::string& text, size_t end) {
  std::vector<const Descriptor*> open{pb::JobSpec::descriptor()};
  std::string last;
  for (size_t i = 0; i < end && i < text.size();) {
    const char c = text[i];
    if (c == '#') {
      i = std::min(text.find('\n', i), text.size());
    } else if (c == '"' || c == '\'') {
      for (++i; i < text.size() && text[i] != c; ++i) i += text[i] == '\\';
      ++i;
    } else if (std::isalpha(static_cast<unsigned char>(c)) || c == '_') {
      const size_t begin = i;
      while (i < text.size() && (std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_')) ++i;
      // A value (`kind: ADAM`) does not become the last name: only what could be a field does.
      const std::string word = text.substr(begin, i - begin);
      if (i <= end && open.back() != nullptr && open.back()->FindFieldByName(word) != nullptr) last = word;
    } else if (c == '{' || c == '<') {
      const FieldDescriptor* field = open.back() == nullptr ? nullptr : open.back()->FindFieldByName(last);
      open.push_back(field == nullptr ? nullptr : field->message_type());
      last.clear();
      ++i;
    } else {
      if ((c == '}' || c == '>') && open.size() > 1) open.pop_back();
      if (c == '}' || c == '>') last.clear();
      ++i;
    }
  }
  Context context;
  context.message = open.back();
  if (context.message != nullptr && !last.empty()) context.field = context.message->FindFieldByName(last);
  return context;
}

// The n-th "quoted" part of a message.
std::string Quoted(const std::string& message, int n) {
  size_t at = 0;
  for (int i = 0;; ++i) {
    const size_t open = message.find('"', at);
    if (open == std::string::npos) return "";
    const size_t close = message.find('"', open + 1);
    if (close == std::string::npos) return "";
    if (i == n) return message.substr(open + 1, close - open - 1);
    at = close + 1;
  }
}

}  // namespace

std::vector<std::string> FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

std::vector<std::string> ValueNames(const EnumDescriptor& values) {
  std::vector<std::string> names;
  for (int i = 0; i < values.value_count(); ++i) names.push_back(values.value(i)->name());
  return names;
}

std::string ExpectedValue(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return "a whole number from 0 to 4294967295";
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a whole number from 0 to 18446744073709551615";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_STRING:
      return "a \"quoted\" string";
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return field.message_type()->name() + " { ... }";
    case FieldDescriptor::CPPTYPE_ENUM: {
      std::string text = "one of:";
      for (const std::string& name : ValueNames(*field.enum_type())) text += " " + name;
      return text;
    }
    default:
      return "another value";
  }
}

namespace {

// The tokenizer stands behind the name that is wrong: step back to the name's start.
void MoveBack(const std::string& text, const std::string& name, TextError& error) {
  const size_t end = OffsetOf(text, error.line, error.column);
  const size_t begin = name.empty() || end == 0 ? std::string::npos : text.rfind(name, end - 1);
  if (begin == std::string::npos) return;
  error.line = static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(begin), '\n'));
  error.column = 0;
  for (size_t i = text.rfind('\n', begin) + 1; i < begin; ++i) {
    error.column = text[i] == '\t' ? (error.column / 8 + 1) * 8 : error.column + 1;
  }
}

std::string Improve(const std::string& text, int line, int column, const std::string& message) {
  const Context context = line < 0 ? Context{} : ContextAt(text, OffsetOf(text, line, column));
  if (message.find("has no field named") != std::string::npos) {
    const std::string full_name = Quoted(message, 0);
    const std::string name = Quoted(message, 1);
    const Descriptor* owner = pb::JobSpec::descriptor()->file()->pool()->FindMessageTypeByName(full_name);
    if (owner == nullptr) return message;
    return "no field \"" + name + "\" in " + owner->name() + Suggestion(name, FieldNames(*owner));
  }
  if (message.starts_with("Unknown enumeration value of") && context.field != nullptr &&
      context.field->enum_type() != nullptr) {
    const std::string name = Quoted(message, 0);
    return "no value \"" + name + "\" for " + context.message->name() + "." + context.field->name() +
           Suggestion(name, ValueNames(*context.field->enum_type()));
  }
  if (message.starts_with("Non-repeated field")) {
    return "\"" + Quoted(message, 0) + "\" is given twice; it takes one value";
  }
  const bool about_value = message.starts_with("Expected") || message.starts_with("Integer out of range") ||
                           message.starts_with("Invalid value for boolean") || message.starts_with("Unable to parse") ||
                           message.starts_with("Invalid float number");
  if (about_value && context.field != nullptr) {
    return message + (message.ends_with('.') ? "" : ".") + " " + context.message->name() + "." + context.field->name() +
           " takes " + ExpectedValue(*context.field);
  }
  return message;
}

}  // namespace

TextError ImproveTextError(const std::string& text, const TextError& error) {
  const bool about_field = error.message.find("has no field named") != std::string::npos;
  const bool about_enum = error.message.starts_with("Unknown enumeration value of");
  TextError better = error;
  if (error.line >= 0 && (about_field || about_enum))
    MoveBack(text, Quoted(error.message, about_field ? 1 : 0), better);
  better.message = Improve(text, better.line, better.column, error.message);
  return better;
}

}  // namespace sheaf::cli
