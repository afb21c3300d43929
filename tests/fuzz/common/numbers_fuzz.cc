// Numbers as people and flags write them: an error or the number, and what we print ourselves is read back.
#include <cmath>
#include <cstdint>
#include <string_view>

#include "common/base/check.h"
#include "common/base/strings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto number = ParseUint(text)) SHEAF_CHECK(ParseUint(std::to_string(*number)).value() == *number);
  if (const auto number = ParseInt(text)) SHEAF_CHECK(ParseInt(std::to_string(*number)).value() == *number);
  if (const auto number = ParseDouble(text)) SHEAF_CHECK(!std::isnan(*number) || !text.empty());
  if (const auto bytes = ParseBytes(text)) (void)FormatBytes(*bytes);
  if (const auto duration = ParseDuration(text)) {
    (void)FormatDuration(*duration);
    (void)FormatSeconds(*duration);
  }
  SHEAF_CHECK(Trim(text).size() <= text.size());
  SHEAF_CHECK(text.empty() || Split(text, ',').size() >= 1);
  SHEAF_CHECK(ToLower(ToUpper(text)) == ToLower(text));
  if (size < 256) SHEAF_CHECK(EditDistance(text, text) == 0);
  if (size < 256) (void)NearestName(text, {"epochs", "batch_size", ""});
  return 0;
}
