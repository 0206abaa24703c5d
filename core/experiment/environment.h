// Environment variables in configuration values: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`.
#pragma once

#include <string>
#include <vector>

namespace infalign::experiment {

struct Expansion {
  std::string text;
  std::vector<std::string> variables;  // named in the text, set or not
  std::string problem;                 // "" when every variable had a value
};

/// A variable that is unset or empty takes its default, as in the shell.
Expansion expand_environment(const std::string& text);

/// The text that expands to `text`.
std::string escape_environment(const std::string& text);

}  // namespace infalign::experiment
