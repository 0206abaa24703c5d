// A model in training whose passes read it in bfloat16: half the memory of every rank, and half of what ranks
// send each other. The float32 parameters are Training's, divided among ranks like the optimizer's moments,
// and what passes read is rounded from them after each step.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/model/narrow_parameters.h"
#include "core/model/transformer.h"
#include "core/stages/parameter_shards.h"
#include "core/stages/problem.h"
#include "distributed/sharded_optimizer.h"
#include "kernels/device.h"
#include "kernels/precision.h"

namespace infalign::stages {

class NarrowModel {
 public:
  /// Room for it, on all ranks or divided among those of `shards`; both have to outlive this. Collective
  /// where it is divided.
  NarrowModel(const kernels::Stream& on, const model::Transformer& transformer, ParameterShards* shards);

  /// What the optimizer writes. `rounding_seed` as there.
  distributed::NarrowCopy copy(std::optional<std::uint64_t> rounding_seed);

  /// Parameters that are not trained further, rounded to the nearest: read(interval, values) gives those of
  /// an interval of the flat buffer, on the CPU. Collective where the model is divided.
  void read(const ReadParameters& read);

  /// Weights for both passes, of the parameters as they are now.
  void prepare(kernels::Precision precision, model::Weights& weights) const;

 private:
  kernels::Stream on_;
  const model::Transformer& transformer_;
  ParameterShards* shards_;
  model::NarrowParameters values_;
  model::Gathering matrices_;     // where they are divided
  model::ParameterRange held_{};  // of the matrices
};

}  // namespace infalign::stages
