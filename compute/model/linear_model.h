// score = bias + sum_j w_j x_j, under any loss of one score. Rows are [w].
#pragma once

#include <memory>

#include "compute/model/losses.h"
#include "compute/model/model.h"

namespace sheaf {

std::unique_ptr<Model> MakeLinearModel(const pb::ModelSpec& spec);

}  // namespace sheaf
