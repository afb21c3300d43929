// Runs a fuzz target without libFuzzer: files named on the command line, or else inputs from a seeded generator.
//
//   envelope_fuzz                the bounded run of the tests
//   envelope_fuzz crash-1234     an input that libFuzzer found
#include <cstdio>
#include <fstream>
#include <iterator>

#include "common/base/random.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

constexpr uint64_t kSeed = 20240611;
constexpr int kRandomRuns = 4'000;
constexpr int kMutatedRuns = 16'000;
constexpr size_t kLongestRandom = 512;

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string RandomInput(Random& random) {
  std::string input(random.Below(kLongestRandom), '\0');
  for (char& c : input) c = static_cast<char>(random.Next());
  return input;
}

// A few of: a bit flipped, a byte replaced, a piece cut out, a piece repeated, the end cut off.
void Mutate(std::string& input, Random& random) {
  for (uint64_t i = random.Below(4) + 1; i > 0 && !input.empty(); --i) {
    const size_t at = random.Below(input.size());
    const size_t length = random.Below(std::min<size_t>(input.size() - at, 16)) + 1;
    switch (random.Below(6)) {
      case 0: input[at] = static_cast<char>(input[at] ^ (1 << random.Below(8))); break;
      case 1: input[at] = static_cast<char>(random.Next()); break;
      case 2: input[at] = random.Chance(0.5) ? '\xff' : '\0'; break;
      case 3: input.erase(at, length); break;
      case 4: input.insert(at, std::string(input, at, length)); break;
      default: input.resize(at); break;
    }
  }
}

int Main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 1;
    }
    Run(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  if (argc > 1) return 0;

  Random random(kSeed);
  Run("");
  for (int i = 0; i < kRandomRuns; ++i) Run(RandomInput(random));
  const std::vector<std::string> seeds = FuzzSeeds != nullptr ? FuzzSeeds() : std::vector<std::string>();
  for (const std::string& seed : seeds) Run(seed);
  for (int i = 0; i < kMutatedRuns && !seeds.empty(); ++i) {
    std::string input = seeds[random.Below(seeds.size())];
    Mutate(input, random);
    Run(input);
  }
  std::printf("%d random inputs, %d made of %zu seeds\n", kRandomRuns, seeds.empty() ? 0 : kMutatedRuns, seeds.size());
  return 0;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) { return sheaf::Main(argc, argv); }
