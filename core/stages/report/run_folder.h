// What a run left behind, as far as the report shows it. Everything is optional: a run that was stopped, or
// that never evaluated, still gets a page with the parts there are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/stages/report/evaluation_record.h"

namespace infalign::stages {

/// One stage's (and variant's) lines of metrics.jsonl, by step. A step that was done twice, because the run
/// was killed after it and before the next checkpoint, stands once: as it was done last.
struct TrainingRecord {
  std::string stage, variant;
  std::map<std::int64_t, std::map<std::string, double>> steps;

  /// The steps at which `key` has a finite value, and that value.
  std::vector<std::pair<double, double>> series(const std::string& key) const;
};

/// How well a reward model learned the annotators' choices, from reward.json or judge.json.
struct PreferenceAccuracy {
  std::string model;  // "reward" or "judge"
  std::int64_t training_pairs = 0, heldout_pairs = 0;
  Estimate heldout_accuracy;  // a share of the held-out pairs
};

struct RunFolder {
  std::string name;
  std::string configuration;                   // experiment.yaml, "" if absent
  std::optional<EvaluationRecord> evaluation;  // evaluation.json
  std::vector<TrainingRecord> training;        // metrics.jsonl, in order of first appearance
  std::vector<PreferenceAccuracy> preference_accuracy;
  std::int64_t unreadable_lines = 0;  // of metrics.jsonl: a killed run leaves half a line

  const TrainingRecord* find(const std::string& stage, const std::string& variant = "") const;
};

/// Errors: InputError for a folder that is not there, or a JSON file that is not what its stage writes.
RunFolder read_run_folder(const std::filesystem::path& folder);

}  // namespace infalign::stages
