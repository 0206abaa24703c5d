// The resolved configuration: an experiment written back as YAML, every key with its value.
#pragma once

#include <string>

#include "core/experiment/experiment.h"

namespace infalign::experiment {

/// YAML that loads to the same experiment from any folder. A variant shows what differs from its section, so
/// that an override of the section still reaches the variants that inherit.
std::string resolved_yaml(const Experiment& experiment);

/// One section of it, or "" when it is not there: names what the section says, for fingerprints.
std::string section_yaml(const Experiment& experiment, const std::string& section);

}  // namespace infalign::experiment
