// Chat formats by name, for models that come without a template.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace infalign::text {

/// The Jinja template of that name, or nullptr.
const std::string_view* find_built_in_template(std::string_view name);

std::vector<std::string> built_in_template_names();

}  // namespace infalign::text
