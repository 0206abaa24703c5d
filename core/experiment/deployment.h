// From the configuration's `inference` section to the deployment that the method is told of.
#pragma once

#include "core/alignment/deployment.h"
#include "core/experiment/experiment.h"

namespace infalign::experiment {

/// The procedures on both sides and their shares. Errors: std::invalid_argument for settings that a procedure
/// refuses; a loaded experiment has none.
alignment::Deployment deployment(const Inference& inference);

}  // namespace infalign::experiment
