// The registry's rows of attention, packed and decoding.
#pragma once

#include <vector>

#include "kernels/cuda/registry.h"

namespace infalign::kernels::testing {

std::vector<Operation> attention_rows();

}  // namespace infalign::kernels::testing
