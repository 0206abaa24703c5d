// The table of all keys: the one place that says what a configuration may contain.
#pragma once

#include "core/experiment/schema.h"

namespace infalign::experiment {

/// The sections of the configuration, bound to the fields of `experiment`; those that are optional (finetune,
/// reward, judge) only if they are there, and an entry of alignment.variants for each variant.
Section describe(Experiment& experiment);

/// One entry of inference.mixture.
Section describe(ProcedureChoice& choice);

/// One entry of alignment.variants.
Section describe(Variant& variant);

/// An experiment in which every optional section is there, to be described and read into.
Experiment with_every_section();

}  // namespace infalign::experiment
