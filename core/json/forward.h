// The names of JSON values, for headers that only mention them.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace infalign {

using Json = nlohmann::json;
/// Keys in the order in which they were given.
using OrderedJson = nlohmann::ordered_json;

}  // namespace infalign
