// The rotary part of `config.json`, of which several spellings are in the wild.
#pragma once

#include "core/model/config_reader.h"
#include "core/model/families.h"
#include "core/model/model_config.h"

namespace infalign::model {

/// rope_theta and rope_scaling (transformers 4), or rope_parameters (5), or both where they agree; fills in
/// config.rope_theta, rotary_dim and rope_scaling. Errors: InputError, also for a kind that is not supported.
void read_rope(ConfigReader& reader, const FamilyTraits& family, ModelConfig& config);

}  // namespace infalign::model
