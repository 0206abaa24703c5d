// `calibration.h5`: the reference policy's own rewards, prompt by prompt, and their pooled sketch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace infalign::storage {

struct CalibrationFile {
  std::vector<std::string> prompt_text;      // [P]
  std::vector<std::uint64_t> prompt_id;      // [P]
  std::int64_t rollouts = 0;                 // K
  std::vector<float> rewards;                // [P, K], ascending per prompt
  std::vector<std::uint64_t> pooled_counts;  // the sketch, one count per key bucket
  std::vector<double> quantile_levels;       // chosen levels in [0, 1] ...
  std::vector<float> quantile_values;        // ... and the exact pooled quantiles there
  // attributes
  std::string sampling;  // JSON of the sampling settings
  std::string reference_fingerprint;
  std::string reward_fingerprint;
  std::string prompts_fingerprint;
  std::uint64_t seed = 0;
  double mean_response_length = 0;
  double drawn_in_table_gap = 0;  // free for the stage: largest sampler-trainer gap seen, nats
};

/// /prompts/{text,id}, /rewards, /pooled/{counts,levels,quantiles}, attributes `format_version`, ...;
/// complete or absent, and the same bytes for the same content. Errors: std::runtime_error naming the file
/// and the cause (disk full; what read_calibration would refuse), std::invalid_argument for a text with a
/// zero byte.
void write_calibration(const std::filesystem::path& path, const CalibrationFile& calibration);

/// Errors: InputError naming the file and what is wrong: truncated, other version, missing dataset, unsorted
/// or non-finite rewards, counts that do not add up.
CalibrationFile read_calibration(const std::filesystem::path& path);

}  // namespace infalign::storage
