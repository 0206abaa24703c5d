// The fixed point of any calibrated deployment by shooting; an inner part of theory.h, which has its
// contract.
#pragma once

#include "core/alignment/theory.h"

namespace infalign::alignment {

/// Errors: std::runtime_error when no curve meets the boundary conditions.
FixedPoint shoot_fixed_point(const Deployment& deployment, double beta);

}  // namespace infalign::alignment
