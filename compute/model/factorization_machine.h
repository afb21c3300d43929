// Factorization machine of degree two (Rendle, ICDM 2010):
//   score = bias + sum_j w_j x_j + 1/2 sum_f [(sum_j v_jf x_j)^2 - sum_j (v_jf x_j)^2]
// Rows are [w, v_1 .. v_k]. The factors start at random (TableSpec.init_stddev): at zero their gradient is zero too.
#pragma once

#include <memory>

#include "compute/model/model.h"

namespace sheaf {

std::unique_ptr<Model> MakeFactorizationMachine(const pb::ModelSpec& spec);

}  // namespace sheaf
