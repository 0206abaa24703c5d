// Runs a parsed template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/syntax.h"

namespace infalign::text::jinja {

/// What the template writes, given the values of its variables. Its work, the depth of its calls and the size
/// of the result are bounded. Errors: RaisedByTemplate with the message that it gives to raise_exception;
/// TemplateError "line N: ..." for whatever cannot be done.
std::string render(const Block& block, const std::vector<std::pair<std::string, Value>>& variables);

}  // namespace infalign::text::jinja
