#include "compute/model/model.h"

#include <cmath>

#include "compute/model/factorization_machine.h"
#include "compute/model/linear_model.h"
#include "compute/model/softmax_model.h"

namespace sheaf {
namespace {

Status CheckSpec(const pb::ModelSpec& spec) {
  if (spec.loss() == pb::ModelSpec::SOFTMAX && (spec.classes() < 2 || spec.classes() > kMaxClasses)) {
    return Fail(ErrorCode::kInvalidArgument, "model.classes is ", spec.classes(), "; it must be from 2 to ",
                kMaxClasses);
  }
  if (spec.kind() == pb::ModelSpec::FACTORIZATION_MACHINE) {
    if (spec.loss() == pb::ModelSpec::SOFTMAX) {
      return Fail(ErrorCode::kInvalidArgument, "model.loss is SOFTMAX, which FACTORIZATION_MACHINE does not have; ",
                  "it must be LOGISTIC, SQUARED or HUBER, or model.kind LINEAR");
    }
    if (spec.factors() < 1 || spec.factors() > kMaxFactors) {
      return Fail(ErrorCode::kInvalidArgument, "model.factors is ", spec.factors(), "; it must be from 1 to ",
                  kMaxFactors);
    }
    if (!(spec.init_stddev() >= 0 && spec.init_stddev() <= 1e3)) {
      return Fail(ErrorCode::kInvalidArgument, "model.init_stddev is ", spec.init_stddev(),
                  "; it must be >= 0 (at most 1000)");
    }
  }
  if (spec.loss() == pb::ModelSpec::HUBER && !(spec.huber_delta() > 0 && std::isfinite(spec.huber_delta()))) {
    return Fail(ErrorCode::kInvalidArgument, "model.huber_delta is ", spec.huber_delta(),
                "; it must be > 0 and finite");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> MakeModel(const pb::ModelSpec& spec) {
  SHEAF_RETURN_IF_ERROR(CheckSpec(spec));
  switch (spec.kind()) {
    case pb::ModelSpec::LINEAR:
      return spec.loss() == pb::ModelSpec::SOFTMAX ? MakeSoftmaxModel(spec) : MakeLinearModel(spec);
    case pb::ModelSpec::FACTORIZATION_MACHINE: return MakeFactorizationMachine(spec);
  }
  return Fail(ErrorCode::kInvalidArgument, "model.kind is ", static_cast<int>(spec.kind()),
              "; it must be LINEAR or FACTORIZATION_MACHINE");
}

}  // namespace sheaf
