// The options that several commands share: how an inference-time procedure is described beside its name.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

namespace infalign::launch {

/// Adds --KEY; `keys` receives what was typed, for stages::parse_procedure, and has to outlive the parsing.
void add_procedure_key(CLI::App& command, std::map<std::string, std::string>& keys, const std::string& key,
                       const std::string& meaning);
/// Adds those of calibrated procedures.
void add_procedure_keys(CLI::App& command, std::map<std::string, std::string>& keys);

}  // namespace infalign::launch
