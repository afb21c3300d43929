#include "cli/job_file.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/job_text_context.h"
#include "cli/nearest.h"
#include "common/job/job_validate.h"

namespace sheaf::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

constexpr size_t kMaxJobFileBytes = 1 << 20;

std::string Place(const std::string& file, int line, int column) {
  if (line < 0) return file;
  return file + ":" + std::to_string(line + 1) + ":" + std::to_string(column + 1);
}

// Turns Protobuf's messages into ours.
class Collector final : public google::protobuf::io::ErrorCollector {
 public:
  Collector(const std::string& text, const std::string& file) : text_(text), file_(file) {}

  void AddError(int line, int column, const std::string& message) override {
    const TextError better = ImproveTextError(text_, {line, column, message});
    const std::string shown = Place(file_, better.line, better.column) + ": " + better.message;
    if (errors_.empty() || errors_.back() != shown) errors_.push_back(shown);
  }
  void AddWarning(int, int, const std::string&) override {}

  std::string Joined() const {
    std::string all;
    for (const std::string& error : errors_) all += (all.empty() ? "" : "\n") + error;
    return all.empty() ? file_ + ": cannot be parsed" : all;
  }

 private:
  const std::string& text_;
  const std::string& file_;
  std::vector<std::string> errors_;
};

// Notes where each field that is present was set.
void NoteOrigins(const google::protobuf::Message& message, const TextFormat::ParseInfoTree* tree,
                 const std::string& prefix, const std::string& file, JobFile& job) {
  if (tree == nullptr) return;
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const int count = field->is_repeated() ? message.GetReflection()->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const int index = field->is_repeated() ? i : -1;
      const std::string path = prefix + field->name() + (field->is_repeated() ? "[" + std::to_string(i) + "]" : "");
      const auto location = tree->GetLocation(field, index);
      if (location.line >= 0) job.origins[path] = Place(file, location.line, location.column);
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated()) {
        NoteOrigins(message.GetReflection()->GetMessage(message, field), tree->GetTreeForNested(field, index),
                    path + ".", file, job);
      }
    }
  }
}

Result<std::string> ReadJobFile(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return Fail(ErrorCode::kInvalidArgument, path, " is a folder, not a job file");
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot read the job file ", path, ": ",
                std::strerror(errno));
  }
  std::string text;
  text.resize(kMaxJobFileBytes + 1);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return Fail(ErrorCode::kIo, "cannot read the job file ", path, ": ", std::strerror(errno));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);  // a byte order mark, as some editors leave it
  if (text.size() > kMaxJobFileBytes) {
    return Fail(ErrorCode::kInvalidArgument, path, " is larger than ", kMaxJobFileBytes, " bytes: not a job file");
  }
  if (text.find('\0') != std::string::npos) {
    return Fail(ErrorCode::kInvalidArgument, path, " is a binary file, not a job file");
  }
  return text;
}

// adult.job.textproto -> adult
std::string NameFromPath(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  name.resize(std::min(name.find('.'), name.size()));
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') c = '-';
  }
  return name;
}

}  // namespace

std::string JobFile::OriginOf(const std::string& path) const {
  for (std::string at = path; !at.empty();) {
    if (const auto found = origins.find(at); found != origins.end()) return found->second;
    const size_t end = at.find_last_of(".[");
    at.resize(end == std::string::npos ? 0 : end);
  }
  return "";
}

Result<JobFile> ParseJobText(const std::string& text, const std::string& file) {
  JobFile job;
  Collector collector(text, file);
  TextFormat::ParseInfoTree tree;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  parser.WriteLocationsTo(&tree);
  parser.SetRecursionLimit(16);
  if (!parser.ParseFromString(text, &job.spec)) return Fail(ErrorCode::kInvalidArgument, collector.Joined());
  NoteOrigins(job.spec, &tree, "", file, job);
  job.origins.try_emplace("", file);
  return job;
}

Result<JobFile> LoadJobFile(const std::string& path, const Environment& environment,
                            const std::vector<std::string>& settings) {
  SHEAF_ASSIGN_OR_RETURN(const std::string text, ReadJobFile(path));
  SHEAF_ASSIGN_OR_RETURN(JobFile job, ParseJobText(text, path));
  SHEAF_RETURN_IF_ERROR(ApplyEnvironment(environment, job));
  for (const std::string& setting : settings) SHEAF_RETURN_IF_ERROR(ApplySetting(setting, job));
  if (!job.spec.has_name()) job.spec.set_name(NameFromPath(path));
  SHEAF_RETURN_IF_ERROR(ValidateJob(job.spec, [&](const std::string& field) {
    const std::string origin = job.OriginOf(field);
    return origin.empty() ? path : origin;
  }));
  return job;
}

}  // namespace sheaf::cli
