// What no key can tell alone: whether the values fit each other, the stages have what they need, and the
// files named are there.
#pragma once

#include "core/experiment/document.h"
#include "core/experiment/experiment.h"
#include "core/experiment/problems.h"

namespace infalign::experiment {

/// Adds to `problems` what makes the run impossible or meaningless, and warnings for what is hardly meant.
/// Values in which a problem is known already are not compared again.
void check(const Experiment& experiment, const Node& document, Problems& problems);

}  // namespace infalign::experiment
