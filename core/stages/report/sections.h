// The report's sections, in reading order. Each turns its part of the run folder into HTML, or says in a
// sentence what is missing.
#pragma once

#include <string>

#include "core/stages/report/run_folder.h"

namespace infalign::stages {

/// `gnuplot` is the program that draws.
std::string header_section(const RunFolder& run);
std::string result_section(const RunFolder& run);
std::string win_rate_section(const RunFolder& run, const std::string& gnuplot);
std::string calibration_section(const RunFolder& run, const std::string& gnuplot);
std::string training_section(const RunFolder& run, const std::string& gnuplot);
std::string examples_section(const RunFolder& run);
std::string configuration_section(const RunFolder& run);
std::string guide_section(const RunFolder& run);

}  // namespace infalign::stages
