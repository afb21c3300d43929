// Seeded random numbers, and the bijective key hash that everything else is ordered by.
//
// Cores take all chance from a Random they are lent, so that a run is a function of its seed.
// Algorithms: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014); its finalizer is MixKey.
#pragma once

#include <cstdint>

namespace sheaf {

// Spreads a key uniformly over 64 bits. Bijective: UnmixKey(MixKey(k)) == k, so no two keys ever collide.
constexpr uint64_t MixKey(uint64_t key) {
  key += 0x9e3779b97f4a7c15ULL;  // so that key 0 does not stay 0
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9ULL;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebULL;
  return key ^ (key >> 31);
}

constexpr uint64_t UnmixKey(uint64_t hashed) {
  hashed = (hashed ^ (hashed >> 31) ^ (hashed >> 62)) * 0x319642b2d24d8ec3ULL;
  hashed = (hashed ^ (hashed >> 27) ^ (hashed >> 54)) * 0x96de1b173f119089ULL;
  return (hashed ^ (hashed >> 30) ^ (hashed >> 60)) - 0x9e3779b97f4a7c15ULL;
}

// One number from two: order matters.
constexpr uint64_t MixPair(uint64_t a, uint64_t b) { return MixKey(MixKey(a) ^ (b * 0xd6e8feb86659fd93ULL)); }

// A small generator: 8 bytes of state, any seed is good. Not thread-safe; not for secrets.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    const uint64_t result = MixKey(state_);
    state_ += 0x9e3779b97f4a7c15ULL;
    return result;
  }
  // Uniform in [0, bound); bound > 0. (Lemire 2019, without the rejection step: bias < bound / 2^64.)
  uint64_t Below(uint64_t bound) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * bound) >> 64);
  }
  // Uniform in [0, 1).
  double NextDouble() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }
  bool Chance(double probability) { return NextDouble() < probability; }
  // Normal with mean 0 and deviation 1 (Box-Muller; one value per call).
  double NextGaussian();

 private:
  uint64_t state_;
};

// A 64-bit value from the operating system, for incarnations and default seeds. Never called by a core.
uint64_t EntropySeed();

}  // namespace sheaf
