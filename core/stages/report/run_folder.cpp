#include "core/stages/report/run_folder.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/json/json.h"

namespace infalign::stages {
namespace {

std::string read_if_there(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (file) content << file.rdbuf();
  return content.str();
}

/// null if there is no such file. Errors: InputError for a file that is not JSON.
Json json_if_there(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return nullptr;
  Json parsed = parse_json(read_if_there(path));
  if (parsed.is_discarded()) throw InputError(path.string() + ": not valid JSON");
  return parsed;
}

/// The value of the top-level `name:` of the resolved configuration; the folder's own name without one.
std::string run_name(const std::string& configuration, const std::filesystem::path& folder) {
  std::istringstream lines(configuration);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("name:")) continue;
    line.erase(0, line.find_first_not_of(" \"'", 5));
    line.erase(line.find_last_not_of(" \"'\r") + 1);
    if (!line.empty()) return line;
  }
  return std::filesystem::absolute(folder).lexically_normal().filename().string();
}

TrainingRecord& record_of(std::vector<TrainingRecord>& records, const std::string& stage,
                          const std::string& variant) {
  const auto found = std::find_if(records.begin(), records.end(), [&](const TrainingRecord& record) {
    return record.stage == stage && record.variant == variant;
  });
  if (found != records.end()) return *found;
  return records.emplace_back(TrainingRecord{stage, variant, {}});
}

/// Adds a line of metrics.jsonl; false if it is not an object with a stage and a step.
bool add_line(std::vector<TrainingRecord>& records, const std::string& line) {
  const Json object = parse_json(line);
  if (!object.is_object()) return false;
  const auto stage = object.find("stage"), step = object.find("step"), variant = object.find("variant");
  if (stage == object.end() || !stage->is_string()) return false;
  if (step == object.end() || !step->is_number_integer()) return false;
  const bool named = variant != object.end() && variant->is_string();
  auto& record = record_of(records, stage->get<std::string>(), named ? variant->get<std::string>() : "");
  auto& values = record.steps[step->get<std::int64_t>()];
  values.clear();
  for (const auto& [key, value] : object.items()) {
    if (value.is_number()) values[key] = value.get<double>();
  }
  return true;
}

}  // namespace

std::vector<std::pair<double, double>> TrainingRecord::series(const std::string& key) const {
  std::vector<std::pair<double, double>> points;
  for (const auto& [step, values] : steps) {
    const auto found = values.find(key);
    if (found != values.end() && std::isfinite(found->second)) {
      points.emplace_back(static_cast<double>(step), found->second);
    }
  }
  return points;
}

const TrainingRecord* RunFolder::find(const std::string& stage, const std::string& variant) const {
  for (const TrainingRecord& record : training) {
    if (record.stage == stage && (variant.empty() || record.variant == variant)) return &record;
  }
  return nullptr;
}

RunFolder read_run_folder(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw InputError(folder.string() + ": no such run folder");
  RunFolder run;
  run.configuration = read_if_there(folder / "experiment.yaml");
  run.name = run_name(run.configuration, folder);

  if (const Json evaluation = json_if_there(folder / "evaluation.json"); !evaluation.is_null()) {
    run.evaluation = parse_evaluation(evaluation);
  }
  for (const std::string model : {"reward", "judge"}) {
    const Json accuracy = json_if_there(folder / (model + ".json"));
    if (!accuracy.is_object()) continue;
    run.preference_accuracy.push_back(
        {model,
         accuracy.value("training_pairs", std::int64_t{0}),
         accuracy.value("heldout_pairs", std::int64_t{0}),
         {accuracy.value("heldout_accuracy", kMissing), accuracy.value("heldout_accuracy_low", kMissing),
          accuracy.value("heldout_accuracy_high", kMissing)}});
  }

  std::istringstream metrics(read_if_there(folder / "metrics.jsonl"));
  for (std::string line; std::getline(metrics, line);) {
    if (!line.empty() && !add_line(run.training, line)) ++run.unreadable_lines;
  }
  return run;
}

}  // namespace infalign::stages
