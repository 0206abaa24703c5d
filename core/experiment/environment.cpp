#include "core/experiment/environment.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace infalign::experiment {
namespace {

bool is_variable_name(const std::string& name) {
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 &&
         std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

/// Appends what stands between the braces of one `${...}`.
void expand_one(const std::string& inside, Expansion& result) {
  const std::size_t mark = inside.find(":-");
  const std::string name = inside.substr(0, mark);
  if (!is_variable_name(name) || inside.find("${") != std::string::npos) {
    result.problem = "${" + inside + "} is not of the form ${NAME} or ${NAME:-default}";
    return;
  }
  result.variables.push_back(name);
  const char* value = std::getenv(name.c_str());
  if (value != nullptr && *value != '\0') {
    result.text += value;
  } else if (mark != std::string::npos) {
    result.text += inside.substr(mark + 2);
  } else {
    result.problem = name + " is not set in the environment; set it, or write ${" + name + ":-default}";
  }
}

}  // namespace

Expansion expand_environment(const std::string& text) {
  Expansion result;
  for (std::size_t i = 0; i < text.size();) {
    if (text.compare(i, 3, "$${") == 0) {
      result.text += "${";
      i += 3;
    } else if (text.compare(i, 2, "${") == 0) {
      const std::size_t end = text.find('}', i);
      if (end == std::string::npos) {
        result.problem = text.substr(i) + " lacks its closing brace";
        return result;
      }
      expand_one(text.substr(i + 2, end - i - 2), result);
      i = end + 1;
    } else {
      result.text += text[i++];
    }
  }
  return result;
}

std::string escape_environment(const std::string& text) {
  std::string escaped;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "${") == 0) escaped += '$';
    escaped += text[i];
  }
  return escaped;
}

}  // namespace infalign::experiment
