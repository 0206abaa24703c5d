// The command `design`: its options, and nothing else.
#pragma once

#include <CLI/CLI.hpp>

#include "core/stages/design.h"

namespace infalign::launch {

/// Adds the command to the program's; `options` receives what was typed and has to outlive the parsing.
CLI::App* add_design_command(CLI::App& app, stages::DesignOptions& options);

}  // namespace infalign::launch
