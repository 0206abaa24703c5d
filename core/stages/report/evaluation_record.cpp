#include "core/stages/report/evaluation_record.h"

#include <cmath>

#include "core/error.h"
#include "core/json/json.h"

namespace infalign::stages {
namespace {

const Json& at(const Json& object, const char* key) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : nothing;
}

double number_of(const Json& object, const char* key) {
  const Json& value = at(object, key);
  return value.is_null() ? kMissing : value.get<double>();
}

std::int64_t count_of(const Json& object, const char* key) {
  const Json& value = at(object, key);
  return value.is_null() ? 0 : value.get<std::int64_t>();
}

std::string text(const Json& object, const char* key) {
  const Json& value = at(object, key);
  return value.is_null() ? std::string() : value.get<std::string>();
}

Estimate estimate(const Json& object, const char* key) {
  const Json& value = at(object, key);
  return {number_of(value, "value"), number_of(value, "low"), number_of(value, "high")};
}

Difference difference(const Json& object, const char* key) {
  const Json& value = at(object, key);
  return {estimate(value, "inference_win_rate"), estimate(value, "standard_win_rate")};
}

VariantRecord variant(const Json& object) {
  VariantRecord record;
  record.name = text(object, "name");
  record.transform = text(object, "transform");
  record.beta = number_of(object, "beta");
  record.target_kl = number_of(object, "target_kl");
  record.steps = count_of(object, "steps");
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
  record.predicted.standard_win_rate = number_of(at(object, "predicted"), "standard_win_rate");
  record.predicted.inference_win_rate = number_of(at(object, "predicted"), "inference_win_rate");
  record.to_first = difference(object, "difference_to_first");
  record.to_previous = difference(object, "difference_to_previous");
  return record;
}

Curve curve(const Json& object) {
  Curve result{text(object, "transform"), {}};
  for (const Json& point : at(object, "points")) {
    result.points.push_back({number_of(point, "kl"), number_of(point, "standard_win_rate"),
                             number_of(point, "inference_win_rate")});
  }
  return result;
}

Answer answer(const Json& object) {
  return {text(object, "variant"), text(object, "text"), number_of(object, "reward")};
}

Example example(const Json& object) {
  Example result{text(object, "prompt"), answer(at(object, "reference")), {}};
  for (const Json& one : at(object, "answers")) result.answers.push_back(answer(one));
  return result;
}

CalibrationRecord calibration(const Json& object) {
  CalibrationRecord record;
  record.mode = text(object, "mode");
  record.rollouts = count_of(object, "rollouts");
  record.uniformity_distance = number_of(object, "uniformity_distance");
  for (const Json& rank : at(object, "heldout_ranks")) {
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

EvaluationRecord parse_evaluation(const Json& evaluation) {
  constexpr std::int64_t kFormatVersion = 1;
  try {
    if (count_of(evaluation, "format_version") != kFormatVersion) {
      throw InputError("evaluation.json: format_version is " + json_text(at(evaluation, "format_version")) +
                       "; this program reads version " + std::to_string(kFormatVersion));
    }
    EvaluationRecord record;
    record.procedure = text(evaluation, "procedure");
    record.n = count_of(evaluation, "n");
    record.deployment = text(evaluation, "deployment");
    record.values_reward = text(evaluation, "value") == "reward";
    record.prompts = count_of(evaluation, "prompts");
    record.samples_per_prompt = count_of(evaluation, "samples_per_prompt");
    record.independent_judge = text(evaluation, "judge") == "judge";
    record.judge_agreement = estimate(evaluation, "judge_agreement");
    record.seconds = number_of(evaluation, "seconds");
    record.calibration = calibration(at(evaluation, "calibration"));
    for (const Json& one : at(evaluation, "variants")) record.variants.push_back(variant(one));
    for (const Json& one : at(evaluation, "curves")) record.curves.push_back(curve(one));
    for (const Json& one : at(evaluation, "examples")) record.examples.push_back(example(one));
    return record;
  } catch (const Json::exception& error) {
    throw InputError(std::string("evaluation.json: a value has the wrong type: ") + error.what());
  }
}

}  // namespace infalign::stages
