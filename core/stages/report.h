// The report stage: one self-contained page from the files of a run folder, readable in any browser without
// network. It works from the files alone, so it can be made again at any time, also of a run that stopped
// half-way.
#pragma once

#include <filesystem>
#include <string>

namespace infalign::stages {

/// Writes `output`/report.html from experiment.yaml, metrics.jsonl and evaluation.json there; parts without a
/// file say so. Pictures are drawn by `gnuplot`; without it the page shows their numbers as tables. Errors:
/// InputError for a broken evaluation.json, std::runtime_error if the page cannot be written.
void write_report(const std::filesystem::path& output, const std::string& gnuplot = "gnuplot");

}  // namespace infalign::stages
