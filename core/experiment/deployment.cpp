#include "core/experiment/deployment.h"

#include <utility>

namespace infalign::experiment {
namespace {

alignment::Procedure procedure(const ProcedureChoice& choice, const std::string& value) {
  auto made = alignment::make_procedure({.name = choice.procedure,
                                         .n = choice.n,
                                         .k = choice.k,
                                         .strength = choice.strength,
                                         .weights = choice.weights,
                                         .quantile = choice.quantile,
                                         .threshold = choice.threshold});
  if (value == "reward") made.value = alignment::Value::kReward;
  return made;
}

}  // namespace

alignment::Deployment deployment(const Inference& inference) {
  std::vector<alignment::Matchup> matchups;
  const auto add = [&](const ProcedureChoice& choice, double share) {
    matchups.push_back({share, procedure(choice, inference.value),
                        procedure(inference.opponent.value_or(choice), inference.value)});
  };
  for (const ProcedureChoice& choice : inference.mixture) add(choice, choice.share);
  if (matchups.empty()) add(inference, 1);
  return alignment::Deployment(std::move(matchups));
}

}  // namespace infalign::experiment
