// Numbers of data files, against the C library: the same number, or none where it has none. The short way divides
// numbers of 16 to 18 digits, which double does not hold exactly, so the last bit may differ; rows keep floats.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "common/base/check.h"
#include "worker/data/number_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto ours = sheaf::ParseWhole(text);
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos)
    return 0;  // hexadecimal, nan(...), blanks: strtod's own
  char* end = nullptr;
  const double theirs = std::strtod(text.c_str(), &end);
  const bool whole = !text.empty() && end == text.c_str() + text.size();
  if (!ours) {
    SHEAF_CHECK(!whole || text.starts_with("+"), "\"", text, "\" was not taken for a number");
    return 0;
  }
  SHEAF_CHECK(whole, "\"", text, "\" was taken for a number");
  // Beyond the least double both 0 and the least are right; strtod gives subnormals, from_chars too.
  const bool next = *ours == std::nextafter(theirs, -HUGE_VAL) || *ours == std::nextafter(theirs, HUGE_VAL);
  SHEAF_CHECK(*ours == theirs || (next && std::isfinite(*ours)) || std::abs(theirs) < 1e-307, "\"", text, "\" is ",
              theirs, ", not ", *ours);
  return 0;
}
