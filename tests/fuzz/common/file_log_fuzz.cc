// A segment of a redo log as it may be found after a crash, or after a disk has gone bad. Input: the bytes of the file.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "common/base/check.h"
#include "common/runtime/temp_folder.h"
#include "common/storage/file_log.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

uint64_t Count(FileLog& log) {
  uint64_t count = 0;
  const Status read = log.Replay(0, [&](uint64_t /*index*/, const Buffer& /*record*/) {
    ++count;
    return Status();
  });
  SHEAF_CHECK(read.has_value(), "what was opened cannot be read: ", read.error().message);
  return count;
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;  // NOLINT: a fuzz target's entry
  static const TempFolder folder;
  std::filesystem::remove_all(folder.path() + "/log");
  std::filesystem::create_directory(folder.path() + "/log");
  std::ofstream(folder.path() + "/log/00000000000000000001.redo", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  auto log = FileLog::Open(folder.path() + "/log", {});
  if (!log) return 0;
  const uint64_t count = Count(**log);
  SHEAF_CHECK((*log)->next_index() == count + 1, "it says ", (*log)->next_index(), " and has ", count);
  // It goes on behind whatever was there.
  (*log)->Append({Buffer::CopyOf(std::as_bytes(std::span("more", 4)))});
  SHEAF_CHECK((*log)->Commit(Durability::kLog).has_value(), "no more can be written");
  const uint64_t chain = (*log)->chain();
  log = FileLog::Open(folder.path() + "/log", {});
  SHEAF_CHECK(log.has_value(), "it cannot be opened again: ", log.error().message);
  SHEAF_CHECK(Count(**log) == count + 1 && (*log)->chain() == chain, "it is another log when opened again");
  return 0;
}
