// score_c = bias_c + sum_j w_jc x_j for c in [0, classes); the loss is the cross-entropy of their softmax.
// Rows are [w_0 .. w_classes-1].
#pragma once

#include <memory>

#include "compute/model/model.h"

namespace sheaf {

std::unique_ptr<Model> MakeSoftmaxModel(const pb::ModelSpec& spec);

}  // namespace sheaf
