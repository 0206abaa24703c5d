// JSON as nlohmann's library has it. To read and to write text takes most of the time that it takes to
// compile; both are compiled here, once.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/json/forward.h"

namespace infalign {

/// The value that the whole text is; discarded (is_discarded(), and nothing else) if it is not JSON.
Json parse_json(std::string_view text);
OrderedJson parse_ordered_json(std::string_view text);

/// On one line, or indented by so many spaces a level. Text that is not UTF-8 gets U+FFFD in its place.
std::string json_text(const Json& value, int indent = -1);
std::string json_text(const OrderedJson& value, int indent = -1);

}  // namespace infalign
