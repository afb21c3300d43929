// Result<T>: a value or an Error that says what failed, which one, and how much.
//
// A subset of C++23's std::expected<T, Error>: when every compiler we build with has it, the aliases at the
// bottom retire this file. Expected trouble (network, disk, peers, configuration) travels as a Result;
// our own bugs are SHEAF_CHECK (check.h). Handle an error or return it, never both; log it once, where it is handled.
#pragma once

#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/base/check.h"

namespace sheaf {

// Each code answers "what may the caller do?"; the comment says it.
enum class ErrorCode {
  kInvalidArgument = 1,    // never retry: the request itself is wrong
  kNotFound = 2,           // the named thing does not exist
  kAlreadyExists = 3,      // the named thing exists; nothing was changed
  kTimeout = 4,            // outcome unknown: retry with the same identity only
  kUnavailable = 5,        // nothing happened: retry later
  kOverloaded = 6,         // nothing happened: retry after a pause, the peer's budget is full
  kStaleEpoch = 7,         // nothing happened: fetch the newer configuration, then retry
  kClosed = 8,             // the stream or lane has ended for good: do not retry
  kPermissionDenied = 9,   // never retry as this user
  kVersionMismatch = 10,   // never retry with this build
  kDataLoss = 11,          // stored or received bytes are damaged
  kResourceExhausted = 12, // disk, memory or descriptors are used up: a person must act
  kCancelled = 13,         // somebody asked for this to end
  kIo = 14,                // the operating system refused; errno text is in the message
  kInternal = 15,          // a bug of ours that could be contained
};

std::string_view ErrorCodeName(ErrorCode code);
// A code that came as a number from another process; kInternal if this build knows no such code.
ErrorCode ErrorCodeFromWire(uint32_t number);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

// The type returned by Fail(): converts to a Result of any T.
struct Failure {
  Error error;
};

// Builds a Failure from parts: Fail(ErrorCode::kNotFound, "no table ", name).
template <typename... Parts>
[[nodiscard]] Failure Fail(ErrorCode code, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return Failure{Error{code, std::move(text).str()}};
}

// Puts `context` in front of an error's text on its way up: Wrap(error, "reading ", path).
template <typename... Parts>
[[nodiscard]] Failure Wrap(const Error& error, const Parts&... context) {
  std::ostringstream text;
  (text << ... << context);
  text << ": " << error.message;
  return Failure{Error{error.code, std::move(text).str()}};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}                  // NOLINT: implicit by design
  Result(Failure failure) : state_(std::in_place_index<1>, std::move(failure.error)) {}  // NOLINT: implicit by design

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { SHEAF_CHECK(has_value(), error().message); return std::get<0>(state_); }
  const T& value() const& { SHEAF_CHECK(has_value(), error().message); return std::get<0>(state_); }
  T&& value() && { SHEAF_CHECK(has_value(), error().message); return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    SHEAF_CHECK(state_.index() == 1, "error() of a Result that holds a value");
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Failure failure) : error_(std::move(failure.error)) {}  // NOLINT: implicit by design

  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  const Error& error() const {
    SHEAF_CHECK(error_.has_value(), "error() of a Result that holds a value");
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

// Returns the error of `expr` from the enclosing function, if it has one.
#define SHEAF_RETURN_IF_ERROR(expr)                                            \
  do {                                                                         \
    if (auto sheaf_status = (expr); !sheaf_status) {                           \
      return ::sheaf::Failure{sheaf_status.error()};                           \
    }                                                                          \
  } while (false)

// SHEAF_ASSIGN_OR_RETURN(auto file, Open(path)): declares `file` or returns the error.
#define SHEAF_ASSIGN_OR_RETURN(declaration, expr) \
  SHEAF_ASSIGN_OR_RETURN_NAMED(SHEAF_CONCAT(sheaf_result_, __LINE__), declaration, expr)
#define SHEAF_ASSIGN_OR_RETURN_NAMED(result, declaration, expr) \
  auto result = (expr);                                         \
  if (!result) return ::sheaf::Failure{result.error()};         \
  declaration = std::move(result).value()
#define SHEAF_CONCAT(a, b) SHEAF_CONCAT_INNER(a, b)
#define SHEAF_CONCAT_INNER(a, b) a##b

}  // namespace sheaf
