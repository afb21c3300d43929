// Sets glog up the way all our programs log: to stderr, unbuffered, each line marked with the process's role.
//
//   I 2026-07-30 12:00:03.123456 worker-3] lease taken range=17
//
// The one piece of process-wide state we have; glog is included only by shells and mains.
#pragma once

#include <string>

namespace sheaf {

// Call once, in main, after flags are parsed. `program` is argv[0].
void SetUpLogging(const char* program, const std::string& role);
// The role in lines to come: a server learns its number from the scheduler. Any thread.
void SetLogRole(const std::string& role);

}  // namespace sheaf
