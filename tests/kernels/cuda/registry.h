// The registry of operations that run on a GPU, a row each: its test cases, and how far its results may lie
// from the CPU's (which the operation's own tests hold to float64). The same rows are run on the stand-ins
// (label cuda-host) and on a device (label gpu).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/trial.h"

namespace infalign::kernels::testing {

struct OperationCase {
  std::string name;
  std::function<void(Trial&)> run;
};

struct Operation {
  std::string name;
  double tolerance;  // of each entry, relative to 1 + the largest of its result; 0: the same bits
  std::vector<OperationCase> cases;
};

const std::vector<Operation>& operations();
std::vector<Result> run_on(const Stream& on, const OperationCase& test);
std::vector<std::string> operation_names();
const Operation& operation_named(const std::string& name);

}  // namespace infalign::kernels::testing
