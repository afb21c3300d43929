#include "worker/data/data_paths.h"

#include <dirent.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "common/base/random.h"
#include "worker/data/byte_stream.h"

namespace sheaf {
namespace {

enum class EntryKind { kFile, kFolder, kOther };

std::optional<EntryKind> KindOf(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return std::nullopt;
  return S_ISDIR(info.st_mode) ? EntryKind::kFolder : S_ISREG(info.st_mode) ? EntryKind::kFile : EntryKind::kOther;
}

struct Entries {
  std::vector<std::string> files;
  std::vector<std::string> folders;
};

Result<Entries> ListFolder(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (dir == nullptr) return FailErrno(errno, "cannot list", path);
  Entries entries;
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(dir.get());
    if (entry == nullptr) {
      if (errno != 0) return FailErrno(errno, "cannot list", path);
      break;
    }
    const std::string name = entry->d_name;
    if (name.starts_with('.')) continue;
    // d_type spares a stat for each of many thousand documents; links and odd file systems still need it.
    std::optional<EntryKind> kind;
    if (entry->d_type == DT_REG) kind = EntryKind::kFile;
    else if (entry->d_type == DT_DIR) kind = EntryKind::kFolder;
    else kind = KindOf(path + "/" + name);
    if (kind == EntryKind::kFile) entries.files.push_back(name);
    if (kind == EntryKind::kFolder) entries.folders.push_back(name);
  }
  std::sort(entries.files.begin(), entries.files.end());
  std::sort(entries.folders.begin(), entries.folders.end());
  return entries;
}

// So that a data folder called "run[1]" is taken by its letters.
std::string EscapedForGlob(std::string_view path) {
  std::string escaped;
  for (const char c : path) {
    if (std::string_view("*?[]{}\\~,").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

std::string_view LastPart(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

Result<std::string> DataPath(std::string_view path, const std::string& data_dir) {
  if (path.empty())
    return Fail(ErrorCode::kInvalidArgument, "a path of the job's data is empty; name a file or folder");
  if (path.find('\0') != path.npos)
    return Fail(ErrorCode::kInvalidArgument, "a path of the job's data holds a zero byte");
  for (size_t at = 0; at <= path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    if (path.substr(at, slash - at) == "..") {
      return Fail(ErrorCode::kInvalidArgument, path,
                  " leaves the data folder by \"..\"; give an absolute path instead");
    }
    at = slash + 1;
  }
  if (path.starts_with('/')) return std::string(path);
  return data_dir.empty() ? std::string(path) : WithoutTrailingSlashes(data_dir) + "/" + std::string(path);
}

Result<std::vector<PathMatch>> ResolvePattern(const std::string& pattern, const std::string& data_dir) {
  SHEAF_ASSIGN_OR_RETURN(const std::string literal, DataPath(pattern, data_dir));
  if (const auto kind = KindOf(literal)) return std::vector<PathMatch>{{pattern, *kind == EntryKind::kFolder}};

  const bool absolute = pattern.starts_with('/');
  const std::string prefix = absolute || data_dir.empty() ? "" : WithoutTrailingSlashes(data_dir) + "/";
  glob_t found{};
  const int code = glob((EscapedForGlob(prefix) + pattern).c_str(), GLOB_BRACE | GLOB_NOSORT, nullptr, &found);
  const std::unique_ptr<glob_t, void (*)(glob_t*)> guard(&found, globfree);
  if (code != 0 && code != GLOB_NOMATCH) return Fail(ErrorCode::kIo, "cannot search for ", pattern, " in ", data_dir);

  std::vector<PathMatch> matches;
  for (size_t i = 0; code == 0 && i < found.gl_pathc; ++i) {
    const std::string path = WithoutTrailingSlashes(found.gl_pathv[i]);
    const auto kind = KindOf(path);
    if (kind)
      matches.push_back({path.substr(path.starts_with(prefix) ? prefix.size() : 0), *kind == EntryKind::kFolder});
  }
  if (matches.empty() && absolute)
    return Fail(ErrorCode::kNotFound, "no file matches ", pattern, "; check the path: is it the same on this machine?");
  if (matches.empty()) {
    return Fail(ErrorCode::kNotFound, "no file matches ", pattern, " in ",
                data_dir.empty() ? "the current folder" : data_dir,
                "; check the pattern, and where the data lies: --data or SHEAF_DATA");
  }
  std::sort(matches.begin(), matches.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  // {a*,ab*} names a file twice.
  const auto same = [](const auto& a, const auto& b) { return a.path == b.path; };
  matches.erase(std::unique(matches.begin(), matches.end(), same), matches.end());
  return matches;
}

Result<std::vector<std::string>> FilesIn(const std::string& folder, const std::string& data_dir) {
  SHEAF_ASSIGN_OR_RETURN(const std::string path, DataPath(folder, data_dir));
  SHEAF_ASSIGN_OR_RETURN(Entries entries, ListFolder(path));
  if (entries.files.empty()) {
    return Fail(ErrorCode::kInvalidArgument, path, " is a folder without files",
                entries.folders.empty() ? "" : " (folders within it are not searched)", "; name the files, e.g. ",
                folder, "/*/*");
  }
  for (std::string& name : entries.files) name = WithoutTrailingSlashes(folder) + "/" + name;
  return std::move(entries.files);
}

Result<DocumentSet> ListDocuments(const std::string& pattern, const std::vector<PathMatch>& folders,
                                  const std::string& data_dir, uint64_t seed) {
  struct Labelled {
    std::string label, path;
    std::vector<std::string> files;
  };
  std::vector<Labelled> found;
  for (const PathMatch& match : folders) {
    SHEAF_ASSIGN_OR_RETURN(const std::string path, DataPath(WithoutTrailingSlashes(match.path), data_dir));
    SHEAF_ASSIGN_OR_RETURN(Entries entries, ListFolder(path));
    if (entries.folders.empty()) {
      found.push_back({std::string(LastPart(path)), path, std::move(entries.files)});
      continue;
    }
    // Loose files beside label folders (lists, licences) are no documents.
    for (const std::string& name : entries.folders) {
      SHEAF_ASSIGN_OR_RETURN(Entries inner, ListFolder(path + "/" + name));
      found.push_back({name, path + "/" + name, std::move(inner.files)});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return std::tie(a.label, a.path) < std::tie(b.label, b.path); });

  DocumentSet set;
  for (Labelled& entry : found) {
    if (entry.files.empty()) {
      return Fail(ErrorCode::kInvalidArgument, entry.path, " is a label's folder without documents; fill or remove it");
    }
    if (set.labels.empty() || set.labels.back() != entry.label) set.labels.push_back(entry.label);
    const auto folder = static_cast<uint32_t>(set.folders.size());
    set.folders.push_back({entry.path, static_cast<uint32_t>(set.labels.size() - 1)});
    for (std::string& name : entry.files) set.documents.push_back({folder, std::move(name)});
  }
  if (set.labels.size() < 2) {
    return Fail(ErrorCode::kInvalidArgument, pattern, " holds ", set.labels.size(),
                " label; name the folder whose folders are the labels, or all of them, e.g. train/{neg,pos}");
  }
  Random random(seed);
  for (size_t i = set.documents.size(); i > 1; --i) std::swap(set.documents[i - 1], set.documents[random.Below(i)]);
  return set;
}

}  // namespace sheaf
