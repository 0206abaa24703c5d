// Stage `calibrate`: K samples of every training prompt from the reference policy, scored and sorted; the
// pooled sketch all-reduced over the ranks; `calibration.h5`. Also how later stages read it back.
#pragma once

#include <filesystem>

#include "core/alignment/calibration.h"
#include "core/stages/problem.h"
#include "core/stages/run.h"
#include "core/storage/calibration_file.h"

namespace infalign::stages {

/// Draws and scores what `calibration.h5` holds; the same on all ranks and on any number of them. `parts` is
/// a folder where finished rounds are kept, so that an interrupted calibration goes on where it was.
storage::CalibrationFile sample_calibration(Run& run, Problem& problem, const std::filesystem::path& parts);

/// Throws InputError saying which of sampling settings, reference, reward, prompts or K differs from this
/// run's.
void require_same_inputs(const storage::CalibrationFile& calibration, const std::filesystem::path& path,
                         const experiment::Experiment& experiment, const Problem& problem);

/// The file's tables and sketch, ready to calibrate rewards in the experiment's mode.
alignment::Calibration make_calibration(const storage::CalibrationFile& file,
                                        const experiment::Calibration& settings);

/// K new rollouts of the reference policy for each of `prompts`, those of this step: a calibration whose rows
/// are these prompts.
alignment::Calibration fresh_calibration(const Run& run, Problem& problem,
                                         std::span<const std::int64_t> prompts, std::int64_t step);

/// Reads and checks the run's calibration.
alignment::Calibration load_calibration(const Run& run, const Problem& problem);

}  // namespace infalign::stages
