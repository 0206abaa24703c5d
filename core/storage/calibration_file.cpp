#include "core/storage/calibration_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "core/error.h"
#include "core/storage/hdf5_file.h"

namespace infalign::storage {
namespace {

constexpr std::int64_t kVersion = 1;

bool is_finite(double value) { return std::isfinite(value); }

/// What is wrong with the rewards [P, K], if anything.
std::string fault_in_rewards(const CalibrationFile& file) {
  const auto rollouts = static_cast<std::size_t>(file.rollouts);
  for (std::size_t prompt = 0; prompt < file.prompt_id.size(); ++prompt) {
    const auto own = std::span(file.rewards).subspan(prompt * rollouts, rollouts);
    const std::string whose = "/rewards of prompt " + std::to_string(prompt);
    if (!std::all_of(own.begin(), own.end(), is_finite)) return whose + " hold a value that is not finite";
    if (!std::is_sorted(own.begin(), own.end())) return whose + " are not ascending";
  }
  return "";
}

/// What is wrong with a calibration, if anything: one list for writing and reading.
std::string fault_in(const CalibrationFile& file) {
  const auto prompts = file.prompt_id.size();
  if (prompts == 0 || file.rollouts < 1) return "there are no prompts or no rollouts";
  if (file.prompt_text.size() != prompts) return "/prompts/text and /prompts/id are of different lengths";
  if (file.rewards.size() != prompts * static_cast<std::size_t>(file.rollouts)) {
    return "/rewards do not have prompts x rollouts values";
  }
  if (const std::string fault = fault_in_rewards(file); !fault.empty()) return fault;
  const auto total = std::accumulate(file.pooled_counts.begin(), file.pooled_counts.end(), std::uint64_t{0});
  if (total != file.rewards.size()) {
    return "/pooled/counts add up to " + std::to_string(total) + ", not to the " +
           std::to_string(file.rewards.size()) + " rewards";
  }
  if (file.quantile_levels.size() != file.quantile_values.size()) {
    return "/pooled/levels and /pooled/quantiles are of different lengths";
  }
  if (!std::all_of(file.quantile_levels.begin(), file.quantile_levels.end(),
                   [](double level) { return level >= 0 && level <= 1; })) {
    return "/pooled/levels are not all in [0, 1]";
  }
  if (!std::all_of(file.quantile_values.begin(), file.quantile_values.end(), is_finite)) {
    return "/pooled/quantiles hold a value that is not finite";
  }
  if (!is_finite(file.mean_response_length) || !is_finite(file.drawn_in_table_gap)) {
    return "mean_response_length or drawn_in_table_gap is not finite";
  }
  return "";
}

template <typename T>
Shape length_of(const std::vector<T>& values) {
  return {static_cast<std::int64_t>(values.size())};
}

}  // namespace

void write_calibration(const std::filesystem::path& path, const CalibrationFile& calibration) {
  if (const std::string fault = fault_in(calibration); !fault.empty()) {
    throw std::runtime_error(path.string() + ": not written: " + fault);
  }
  const auto prompts = static_cast<std::int64_t>(calibration.prompt_id.size());
  Hdf5Writer file(path);
  file.set_attributes("/", {{"format_version", kVersion},
                            {"sampling", calibration.sampling},
                            {"reference_fingerprint", calibration.reference_fingerprint},
                            {"reward_fingerprint", calibration.reward_fingerprint},
                            {"prompts_fingerprint", calibration.prompts_fingerprint},
                            {"seed", calibration.seed},
                            {"mean_response_length", calibration.mean_response_length},
                            {"drawn_in_table_gap", calibration.drawn_in_table_gap}});
  file.write_strings("/prompts/text", calibration.prompt_text);
  file.write<std::uint64_t>("/prompts/id", {prompts}, calibration.prompt_id);
  file.write<float>("/rewards", {prompts, calibration.rollouts}, calibration.rewards);
  file.write<std::uint64_t>("/pooled/counts", length_of(calibration.pooled_counts),
                            calibration.pooled_counts);
  file.write<double>("/pooled/levels", length_of(calibration.quantile_levels), calibration.quantile_levels);
  file.write<float>("/pooled/quantiles", length_of(calibration.quantile_values), calibration.quantile_values);
  file.commit(Hdf5Writer::Seal::kYes);
}

CalibrationFile read_calibration(const std::filesystem::path& path) {
  const Hdf5Reader file(path);
  file.require_version(kVersion, "a calibration file");
  const Attributes attributes = file.attributes("/");
  CalibrationFile calibration;
  calibration.sampling = attribute<std::string>(path, attributes, "sampling");
  calibration.reference_fingerprint = attribute<std::string>(path, attributes, "reference_fingerprint");
  calibration.reward_fingerprint = attribute<std::string>(path, attributes, "reward_fingerprint");
  calibration.prompts_fingerprint = attribute<std::string>(path, attributes, "prompts_fingerprint");
  calibration.seed = attribute<std::uint64_t>(path, attributes, "seed");
  calibration.mean_response_length = attribute<double>(path, attributes, "mean_response_length");
  calibration.drawn_in_table_gap = attribute<double>(path, attributes, "drawn_in_table_gap");

  calibration.prompt_text = file.read_strings("/prompts/text");
  calibration.prompt_id = file.read<std::uint64_t>("/prompts/id");
  const Shape shape = file.shape("/rewards");
  if (shape.size() != 2) file.refuse("/rewards", "does not have shape [prompts, rollouts]");
  calibration.rollouts = shape[1];
  calibration.rewards = file.read<float>("/rewards");
  calibration.pooled_counts = file.read<std::uint64_t>("/pooled/counts");
  calibration.quantile_levels = file.read<double>("/pooled/levels");
  calibration.quantile_values = file.read<float>("/pooled/quantiles");
  if (const std::string fault = fault_in(calibration); !fault.empty())
    throw InputError(path.string() + ": " + fault);
  return calibration;
}

}  // namespace infalign::storage
