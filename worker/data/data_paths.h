// From the patterns of a job to files: globs below the data folder, and folders of documents.
//
// Names come sorted bytewise, so every worker sees the same order. Pure lookups; no file is opened.
// Errors: kNotFound names pattern and data folder; kInvalidArgument for patterns that leave the data folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace sheaf {

// Where a job's path lies: below `data_dir`, unless absolute. kInvalidArgument for ".." in it.
Result<std::string> DataPath(std::string_view path, const std::string& data_dir);

struct PathMatch {
  std::string path;  // below the data folder, or absolute if the pattern is
  bool is_folder = false;
};
// What a pattern (*, ?, [...], {a,b}) names, sorted. Never empty. A file that is called just like the pattern wins.
Result<std::vector<PathMatch>> ResolvePattern(const std::string& pattern, const std::string& data_dir);

// The regular files right in a folder, sorted, without hidden ones. kInvalidArgument if there are none.
Result<std::vector<std::string>> FilesIn(const std::string& folder, const std::string& data_dir);

// One split given as a folder per label with a file per document.
struct DocumentSet {
  struct Document {
    uint32_t folder = 0;      // index of `folders`
    std::string name;
  };
  struct Folder {
    std::string path;         // as it is opened
    uint32_t label = 0;
  };
  std::vector<std::string> labels;     // sorted; a label's index is its class
  std::vector<Folder> folders;
  std::vector<Document> documents;     // in the order of the split's rows
};
// `folders` are the pattern's matches. If they hold folders, those are the labels; otherwise they are labels
// themselves. Documents are sorted by label and name, then shuffled by `seed`, so that a range of rows holds all
// labels.
Result<DocumentSet> ListDocuments(const std::string& pattern, const std::vector<PathMatch>& folders,
                                  const std::string& data_dir, uint64_t seed);

}  // namespace sheaf
