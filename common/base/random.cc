#include "common/base/random.h"

#include <sys/random.h>

#include <cmath>
#include <numbers>

#include "common/base/check.h"

namespace sheaf {

double Random::NextGaussian() {
  const double u = 1.0 - NextDouble();  // in (0, 1], so that the logarithm is finite
  const double v = NextDouble();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

uint64_t EntropySeed() {
  uint64_t seed = 0;
  const ssize_t got = getrandom(&seed, sizeof seed, 0);
  SHEAF_CHECK(got == static_cast<ssize_t>(sizeof seed), "getrandom failed");
  return seed;
}

}  // namespace sheaf
