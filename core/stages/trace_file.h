// The timeline of a run in Chrome's trace format, which Perfetto (ui.perfetto.dev) and chrome://tracing open:
// a process for each rank, a row for each of its threads.
#pragma once

#include <filesystem>

#include "core/stages/run.h"

namespace infalign::stages {

/// Writes what all ranks recorded since start_trace into one file; its time begins with the first span.
/// Collective. Errors: std::runtime_error when the file cannot be written.
void write_trace(Run& run, const std::filesystem::path& file);

}  // namespace infalign::stages
