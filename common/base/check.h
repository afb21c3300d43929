// SHEAF_CHECK(condition, parts...): a broken invariant of our own ends the process, in release builds too.
//
// Never for bytes from a peer, a file or a user: those are validated and answered with an Error.
#pragma once

#include <sstream>
#include <string>

namespace sheaf {

// Prints file:line, the condition and the text to stderr with a stack, then aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const std::string& text);

inline std::string CheckText() { return {}; }
template <typename... Parts>
std::string CheckText(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return std::move(text).str();
}

}  // namespace sheaf

#define SHEAF_CHECK(condition, ...)                                                                       \
  do {                                                                                                    \
    if (!(condition)) [[unlikely]] {                                                                      \
      ::sheaf::CheckFailed(__FILE__, __LINE__, #condition, ::sheaf::CheckText(__VA_ARGS__));              \
    }                                                                                                     \
  } while (false)
