// Places at which a process can be made to die, to test what it leaves behind and how the others go on
// (tests/e2e/failpoints_test.py).
//
// A process that passes one of which the folder SHEAF_FAILPOINTS has a file removes that file and ends by SIGKILL. So
// of one file just one process dies, whichever comes first, and not again when it is started anew; and whoever made
// the file sees that it has happened. Without SHEAF_FAILPOINTS to pass one is to look at a pointer.
//
// They are in what is shipped, unlike planted bugs (planted_bug.h): they do nothing that may not happen anyway. Shells
// and adapters pass them, where something is saved, sent or written; cores have no business with them.
#pragma once

#include <string_view>

namespace sheaf {

inline constexpr std::string_view kFailpoints[] = {
    // The scheduler, when a checkpoint has come to a phase: before that is saved; when it is, and nobody is told; when
    // all are. (What is saved changes in the first phase and in the last only.)
    "scheduler.opening.unsaved",
    "scheduler.opening.saved",
    "scheduler.opening.told",
    "scheduler.pausing.unsaved",
    "scheduler.pausing.told",
    "scheduler.freezing.unsaved",
    "scheduler.freezing.told",
    "scheduler.resuming.unsaved",
    "scheduler.resuming.told",
    "scheduler.writing.unsaved",
    "scheduler.writing.told",
    "scheduler.committing.unsaved",
    "scheduler.committing.told",
    "scheduler.ended.unsaved",
    "scheduler.ended.saved",
    "scheduler.ended.told",
    // The scheduler's thread for files.
    "folder.unmade",
    "folder.made",
    "folder.linked",
    "folder.manifest_unnamed",
    "folder.manifest_named",
    "folder.unnamed",
    "folder.named",
    "folder.committed",
    "folder.trimming",
    "folder.removing",
    "folder.dropping",
    // Servers.
    "server.ordered",
    "server.frozen",
    "server.prepared.untold",
    "server.prepared.told",
    "server.file.created",
    "server.file.begun",
    "server.file.unsynced",
    "server.file.synced",
    "server.written.untold",
    "server.written.told",
    // Workers: when they stand still, and when they say that they did until all servers were frozen.
    "worker.still.untold",
    "worker.still.told",
    "worker.stood_still.untold",
    "worker.stood_still.told",
};

// One of those above, or it does not compile.
class Failpoint {
 public:
  consteval Failpoint(const char* name) : name_(name) {  // a name stands for its place
    for (const std::string_view known : kFailpoints) {
      if (known == name_) return;
    }
    IsNotInTheTable();
  }
  const char* name() const { return name_.data(); }

 private:
  static void IsNotInTheTable();

  std::string_view name_;
};

void Pass(Failpoint point);

}  // namespace sheaf
