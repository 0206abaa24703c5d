#include "core/stages/report/evaluation_record.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace infalign::stages {
namespace {

using nlohmann::json;

const json& at(const json& object, const char* key) {
  static const json nothing;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : nothing;
}

double number(const json& object, const char* key) {
  const json& value = at(object, key);
  return value.is_null() ? kMissing : value.get<double>();
}

std::int64_t count(const json& object, const char* key) {
  const json& value = at(object, key);
  return value.is_null() ? 0 : value.get<std::int64_t>();
}

std::string text(const json& object, const char* key) {
  const json& value = at(object, key);
  return value.is_null() ? std::string() : value.get<std::string>();
}

Estimate estimate(const json& object, const char* key) {
  const json& value = at(object, key);
  return {number(value, "value"), number(value, "low"), number(value, "high")};
}

Difference difference(const json& object, const char* key) {
  const json& value = at(object, key);
  return {estimate(value, "inference_win_rate"), estimate(value, "standard_win_rate")};
}

VariantRecord variant(const json& object) {
  VariantRecord record;
  record.name = text(object, "name");
  record.transform = text(object, "transform");
  record.beta = number(object, "beta");
  record.target_kl = number(object, "target_kl");
  record.steps = count(object, "steps");
  record.kl = estimate(object, "kl");
  record.kl_k3 = estimate(object, "kl_k3");
  record.standard_win_rate = estimate(object, "standard_win_rate");
  record.inference_win_rate = estimate(object, "inference_win_rate");
  record.reward = estimate(object, "reward");
  record.reference_reward = estimate(object, "reference_reward");
  record.response_length = estimate(object, "response_length");
  record.win_rate_by_reward = estimate(at(object, "by_reward"), "inference_win_rate");
  record.to_previous_by_reward = estimate(at(object, "by_reward"), "difference_to_previous");
  record.inference_reward = estimate(object, "inference_reward");
  record.reference_inference_reward = estimate(object, "reference_inference_reward");
  record.predicted.standard_win_rate = number(at(object, "predicted"), "standard_win_rate");
  record.predicted.inference_win_rate = number(at(object, "predicted"), "inference_win_rate");
  record.to_first = difference(object, "difference_to_first");
  record.to_previous = difference(object, "difference_to_previous");
  return record;
}

Curve curve(const json& object) {
  Curve result{text(object, "transform"), {}};
  for (const json& point : at(object, "points")) {
    result.points.push_back(
        {number(point, "kl"), number(point, "standard_win_rate"), number(point, "inference_win_rate")});
  }
  return result;
}

Answer answer(const json& object) {
  return {text(object, "variant"), text(object, "text"), number(object, "reward")};
}

Example example(const json& object) {
  Example result{text(object, "prompt"), answer(at(object, "reference")), {}};
  for (const json& one : at(object, "answers")) result.answers.push_back(answer(one));
  return result;
}

CalibrationRecord calibration(const json& object) {
  CalibrationRecord record;
  record.mode = text(object, "mode");
  record.rollouts = count(object, "rollouts");
  record.uniformity_distance = number(object, "uniformity_distance");
  for (const json& rank : at(object, "heldout_ranks")) {
    if (!rank.is_null()) record.heldout_ranks.push_back(rank.get<double>());
  }
  return record;
}

}  // namespace

bool Estimate::known() const { return std::isfinite(value); }

std::string EvaluationRecord::procedure_name() const {
  const std::string plain = procedure == "standard" ? procedure : procedure + " " + std::to_string(n);
  if (!deployment.empty() && deployment != plain) return deployment;
  if (procedure == "best_of_n") return "Best-of-" + std::to_string(n);
  if (procedure == "worst_of_n") return "Worst-of-" + std::to_string(n);
  if (procedure == "standard") return "ordinary sampling";
  return procedure + " (N = " + std::to_string(n) + ")";
}

EvaluationRecord parse_evaluation(const json& evaluation) {
  constexpr std::int64_t kFormatVersion = 1;
  try {
    if (count(evaluation, "format_version") != kFormatVersion) {
      throw InputError("evaluation.json: format_version is " + at(evaluation, "format_version").dump() +
                       "; this program reads version " + std::to_string(kFormatVersion));
    }
    EvaluationRecord record;
    record.procedure = text(evaluation, "procedure");
    record.n = count(evaluation, "n");
    record.deployment = text(evaluation, "deployment");
    record.values_reward = text(evaluation, "value") == "reward";
    record.prompts = count(evaluation, "prompts");
    record.samples_per_prompt = count(evaluation, "samples_per_prompt");
    record.independent_judge = text(evaluation, "judge") == "judge";
    record.judge_agreement = estimate(evaluation, "judge_agreement");
    record.seconds = number(evaluation, "seconds");
    record.calibration = calibration(at(evaluation, "calibration"));
    for (const json& one : at(evaluation, "variants")) record.variants.push_back(variant(one));
    for (const json& one : at(evaluation, "curves")) record.curves.push_back(curve(one));
    for (const json& one : at(evaluation, "examples")) record.examples.push_back(example(one));
    return record;
  } catch (const json::exception& error) {
    throw InputError(std::string("evaluation.json: a value has the wrong type: ") + error.what());
  }
}

}  // namespace infalign::stages
