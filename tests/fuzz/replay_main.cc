// Runs a fuzz target without libFuzzer, as part of the tests: each file of a corpus as it is, then seeded random bytes
// and seeded mutations of those files.
//
//   envelope_fuzz tests/fuzz/corpus/envelope     the bounded run of the tests
//   envelope_fuzz crash-1234                     inputs that libFuzzer found, as they are
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

constexpr uint64_t kSeed = 20240611;
constexpr int kRandomRuns = 4'000;
constexpr int kMutatedRuns = 16'000;
constexpr int kStructuredRuns = 10'000;  // each is a whole conversation
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
void MutateBytes(std::string& input, Random& random) {
  for (uint64_t i = random.Below(4) + 1; i > 0 && !input.empty(); --i) {
    const size_t at = random.Below(input.size());
    const size_t length = random.Below(std::min<size_t>(input.size() - at, 16)) + 1;
    switch (random.Below(6)) {
      case 0:
        input[at] = static_cast<char>(input[at] ^ (1 << random.Below(8)));
        break;
      case 1:
        input[at] = static_cast<char>(random.Next());
        break;
      case 2:
        input[at] = random.Chance(0.5) ? '\xff' : '\0';
        break;
      case 3:
        input.erase(at, length);
        break;
      case 4:
        input.insert(at, std::string(input, at, length));
        break;
      default:
        input.resize(at);
        break;
    }
  }
}

bool ReadFile(const std::filesystem::path& path, std::vector<std::string>& inputs) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    return false;
  }
  inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  return true;
}

bool ReadFolder(const std::filesystem::path& folder, std::vector<std::string>& inputs) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return std::all_of(files.begin(), files.end(), [&](const auto& file) { return ReadFile(file, inputs); });
}

void RunMany(const std::vector<std::string>& seeds) {
  Random random(kSeed);
  Run("");
  for (int i = 0; i < kRandomRuns; ++i) Run(RandomInput(random));
  const int mutated = FuzzMutate != nullptr ? kStructuredRuns : kMutatedRuns;
  for (int i = 0; i < mutated && !seeds.empty(); ++i) {
    std::string input = seeds[random.Below(seeds.size())];
    FuzzMutate != nullptr ? FuzzMutate(input, random) : MutateBytes(input, random);
    Run(input);
  }
  std::printf("%zu seeds, %d mutated, %d random inputs\n", seeds.size(), seeds.empty() ? 0 : mutated, kRandomRuns);
}

int Main(int argc, char** argv) {
  std::vector<std::string> inputs;
  bool is_corpus = false;
  for (int i = 1; i < argc; ++i) {
    const bool is_folder = std::filesystem::is_directory(argv[i]);
    is_corpus |= is_folder;
    if (!(is_folder ? ReadFolder(argv[i], inputs) : ReadFile(argv[i], inputs))) return 1;
  }
  if (inputs.empty()) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER | INPUT...\n", argv[0]);
    return 2;
  }
  for (const std::string& input : inputs) Run(input);
  if (is_corpus) RunMany(inputs);
  return 0;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) { return sheaf::Main(argc, argv); }
