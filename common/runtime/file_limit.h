// How many files and sockets the process may have open.
#pragma once

namespace sheaf {

// Takes all that the system allows: a connection is a descriptor or two, and the usual soft limit of 1,024 would end a
// cluster at some 500 shards. Call first thing in main.
void RaiseFileLimit();

}  // namespace sheaf
