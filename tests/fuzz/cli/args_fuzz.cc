// Command lines of any words: one line that says what is wrong, or values within their ranges.
#include <cstdint>
#include <string>
#include <vector>

#include "cli/args.h"
#include "common/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf::cli;
  static const CommandLine command = {
      .name = "sheaf fuzz",
      .operands = "FILE...",
      .summary = "Takes anything.",
      .least_operands = 1,
      .most_operands = 3,
      .options = {{.name = "workers", .kind = Option::kInteger, .help = "h", .least = 1, .most = 64},
                  {.name = "rate", .kind = Option::kNumber, .fallback = "0.5", .help = "h", .least = 0, .most = 1},
                  {.name = "set", .kind = Option::kList, .help = "h", .greedy = true},
                  {.name = "mode", .kind = Option::kText, .fallback = "bsp", .help = "h", .choices = {"bsp", "ssp"}},
                  {.name = "quiet", .kind = Option::kFlag, .help = "h", .letter = 'q'}}};
  std::vector<std::string> words(1);
  for (size_t i = 0; i < size; ++i) {
    if (data[i] == '\n')
      words.emplace_back();
    else
      words.back() += static_cast<char>(data[i]);
  }
  const auto args = Args::Parse(command, words);
  if (!args) {
    SHEAF_CHECK(!args.error().message.empty(), "an error without a text");
    return 0;
  }
  if (args->help()) return 0;
  SHEAF_CHECK(args->operands().size() >= 1 && args->operands().size() <= 3);
  if (args->Given("workers")) SHEAF_CHECK(args->Integer("workers") >= 1 && args->Integer("workers") <= 64);
  SHEAF_CHECK(args->Number("rate") >= 0 && args->Number("rate") <= 1);
  SHEAF_CHECK(args->Text("mode") == "bsp" || args->Text("mode") == "ssp");
  (void)args->List("set");
  return 0;
}
