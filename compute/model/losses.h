// Losses of one score, and the exponential and logarithm they need: inlined, branch-free, the same on every machine.
//
// Loss of a score s and a label y, and its derivative by s (the residual):
//   LOGISTIC  log(1 + e^s) - y s              sigmoid(s) - y             y in [0, 1]
//   SQUARED   (s - y)^2 / 2                   s - y
//   HUBER     as SQUARED while |s - y| <= d, else d |s - y| - d^2 / 2 (Huber 1964)
// Nothing overflows for any finite score; NaN in, NaN out.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compute/kernel.h"
#include "proto/job.pb.h"

namespace sheaf {

// e^x for x <= 0, to a relative 1e-14; below -700 it stays e^-700. Not std::exp: its last bit differs from library to
// library, and loops over it do not vectorise.
SHEAF_INLINE double ExpNonPositive(double x) {
  constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2^52: leaves the nearest integer in the low bits
  constexpr double kLog2e = 1.4426950408889634;
  constexpr double kLn2High = 0.6931471803691238;  // 33 bits, so that n * kLn2High is exact
  constexpr double kLn2Low = 1.9082149292705877e-10;
  x = x < -700.0 ? -700.0 : x;
  const double shifted = x * kLog2e + kRounder;
  const double n = shifted - kRounder;
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  double p = 1.0 / 39916800;                          // Taylor to r^11 / 11!: the next term is below 1e-14
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const uint64_t power = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  return p * std::bit_cast<double>(power);
}

// log(1 + e) for e in [0, 1], to a relative 1e-12: 2 atanh(t) with t = e / (2 + e) <= 1/3.
SHEAF_INLINE double Log1pUnit(double e) {
  const double t = e / (2.0 + e);
  const double q = t * t;  // <= 1/9
  double p = 1.0 / 25;
  p = p * q + 1.0 / 23;
  p = p * q + 1.0 / 21;
  p = p * q + 1.0 / 19;
  p = p * q + 1.0 / 17;
  p = p * q + 1.0 / 15;
  p = p * q + 1.0 / 13;
  p = p * q + 1.0 / 11;
  p = p * q + 1.0 / 9;
  p = p * q + 1.0 / 7;
  p = p * q + 1.0 / 5;
  p = p * q + 1.0 / 3;
  p = p * q + 1.0;
  return 2.0 * t * p;
}

struct PointLoss {
  pb::ModelSpec::Loss kind = pb::ModelSpec::LOGISTIC;
  double huber_delta = 1;
};

SHEAF_INLINE void LogisticLoss(double score, double label, double& loss, double& residual) {
  const double e = ExpNonPositive(-std::fabs(score));
  const double positive = score > 0 ? score : 0.0;
  loss = (positive - label * score) + Log1pUnit(e);
  residual = (score >= 0 ? 1.0 : e) / (1.0 + e) - label;
}
SHEAF_INLINE void SquaredLoss(double score, double label, double& loss, double& residual) {
  residual = score - label;
  loss = 0.5 * residual * residual;
}
SHEAF_INLINE void HuberLoss(double score, double label, double delta, double& loss, double& residual) {
  const double error = score - label;
  const double inside = error > delta ? delta : (error < -delta ? -delta : error);
  residual = inside;
  loss = inside * (error - 0.5 * inside);  // at the ends inside = +-delta
}

// Losses and residuals of `count` examples.
SHEAF_INLINE void PointLosses(const PointLoss& point, const float* scores, const float* labels, size_t count,
                              double* losses, float* residuals) {
  switch (point.kind) {
    case pb::ModelSpec::LOGISTIC:
      SHEAF_INDEPENDENT
      for (size_t i = 0; i < count; ++i) {
        double residual;
        LogisticLoss(scores[i], labels[i], losses[i], residual);
        residuals[i] = static_cast<float>(residual);
      }
      return;
    case pb::ModelSpec::HUBER:
      for (size_t i = 0; i < count; ++i) {
        double residual;
        HuberLoss(scores[i], labels[i], point.huber_delta, losses[i], residual);
        residuals[i] = static_cast<float>(residual);
      }
      return;
    default:  // SQUARED; SOFTMAX is no loss of one score
      for (size_t i = 0; i < count; ++i) {
        double residual;
        SquaredLoss(scores[i], labels[i], losses[i], residual);
        residuals[i] = static_cast<float>(residual);
      }
      return;
  }
}

}  // namespace sheaf
