// What a stage gives to be trained: parameters, and how passes read them.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "distributed/communicator.h"
#include "distributed/sharded_optimizer.h"

namespace infalign::stages {

/// Either float32 parameters that passes read themselves, or a copy in bfloat16 that they read in the place
/// of parameters which Training keeps, each rank those that it updates. On the device of the run.
struct Trainable {
  std::span<float> parameters = {};  // all, or where they are sharded what this rank holds of them
  std::optional<distributed::NarrowCopy> copy = std::nullopt;
  /// With a copy: writes the parameters [interval) from which training starts. Called once.
  std::function<void(distributed::Interval interval, std::span<float> to)> start = {};
};

}  // namespace infalign::stages
