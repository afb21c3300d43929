// The update rules, one weight at a time. g is the gradient of the batch's mean loss plus l2 * w. See row_update.h.
#pragma once

#include "compute/optim/row_update.h"

namespace sheaf {

struct SumRule {
  static constexpr int kSlots = 0;
  static constexpr bool kL1 = false;
  SHEAF_INLINE const SumRule& ForRow(float*, uint32_t) const { return *this; }
  SHEAF_INLINE void Update(float& w, float&, float&, float g) const { w = w + g; }
};

struct SgdRule {
  static constexpr int kSlots = 0;
  static constexpr bool kL1 = true;
  float rate;
  SHEAF_INLINE const SgdRule& ForRow(float*, uint32_t) const { return *this; }
  SHEAF_INLINE void Update(float& w, float&, float&, float g) const { w = w - rate * g; }
};

// Heavy ball: m is a decaying sum of gradients (not an average).
struct MomentumRule {
  static constexpr int kSlots = 1;
  static constexpr bool kL1 = true;
  float rate;
  float momentum;
  SHEAF_INLINE const MomentumRule& ForRow(float*, uint32_t) const { return *this; }
  SHEAF_INLINE void Update(float& w, float& m, float&, float g) const {
    m = momentum * m + g;
    w = w - rate * m;
  }
};

// Duchi, Hazan, Singer, JMLR 2011.
struct AdagradRule {
  static constexpr int kSlots = 1;
  static constexpr bool kL1 = true;
  float rate;
  float epsilon;
  SHEAF_INLINE const AdagradRule& ForRow(float*, uint32_t) const { return *this; }
  SHEAF_INLINE void Update(float& w, float& sum, float&, float g) const {
    sum = sum + g * g;
    w = w - rate * g / (std::sqrt(sum) + epsilon);
  }
};

// The factors of Adam's bias correction after so many steps.
struct AdamCorrection {
  float first = 1;    // 1 / (1 - beta1^t)
  float second = 1;   // 1 / sqrt(1 - beta2^t)
};

// Kingma, Ba, ICLR 2015; with decay, AdamW: Loshchilov, Hutter, ICLR 2019.
// DEVIATION: t counts the updates of the row, not of the table: rows of sparse tables are touched rarely ("lazy" Adam).
struct AdamRowRule {
  static constexpr int kSlots = 2;
  float rate;         // times correction.first
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float epsilon;
  float keep;         // 1 - rate * weight_decay; 1 for Adam
  float second;
  SHEAF_INLINE void Update(float& w, float& m, float& v, float g) const {
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    w = keep * w - rate * m / (std::sqrt(v) * second + epsilon);
  }
};
struct AdamRule {
  static constexpr int kSlots = 2;
  static constexpr bool kL1 = true;
  static constexpr float kMaxSteps = 16777216.0f;  // a float counts no further; the corrections are 1 long before
  AdamRowRule constants;
  const AdamCorrection* corrections;               // by step; the last entry is that of all later steps
  uint32_t correction_count;
  SHEAF_INLINE AdamRowRule ForRow(float* row, uint32_t dim) const {
    float& steps = row[3 * static_cast<size_t>(dim)];
    // Written so that a count that is no count (a damaged row) does not index out of the table.
    const float next = steps >= 0 && steps < kMaxSteps ? steps + 1 : kMaxSteps;
    steps = next;
    const uint32_t step = static_cast<uint32_t>(next);
    const AdamCorrection& correction = corrections[step < correction_count ? step : correction_count - 1];
    AdamRowRule rule = constants;
    rule.rate = constants.rate * correction.first;
    rule.second = correction.second;
    return rule;
  }
};

// FTRL-proximal, McMahan et al., KDD 2013, with l1 as there.
// DEVIATION: l2 is in the gradient, as for the other optimizers.
struct FtrlRule {
  static constexpr int kSlots = 2;
  static constexpr bool kL1 = false;
  float inverse_alpha;
  float beta;
  float l1;
  SHEAF_INLINE const FtrlRule& ForRow(float*, uint32_t) const { return *this; }
  SHEAF_INLINE void Update(float& w, float& z, float& n, float g) const {
    const float sum = n + g * g;
    const float root = std::sqrt(sum);
    const float sigma = (root - std::sqrt(n)) * inverse_alpha;
    z = z + (g - sigma * w);
    n = sum;
    w = -SoftThreshold(z, l1) / ((beta + root) * inverse_alpha);
  }
};

}  // namespace sheaf
