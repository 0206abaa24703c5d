// How procedures and transforms are written on a command line, and read: `best_of_n:4`, `kth_of_n:8:k=7`,
// `exponential:10`. One grammar for all options; every error is one line that says what is wrong, where, and
// what would be right.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/alignment/deployment.h"
#include "core/alignment/transform.h"

namespace infalign::stages {

/// `name[:n][:key=value...]` with the keys n, k, strength, weights (numbers divided by / or ,), quantile and
/// threshold.
struct ProcedureSpec {
  alignment::ProcedureSettings settings;
  std::vector<std::pair<std::string, std::string>> given;  // key and value, in order, without the name

  alignment::Procedure procedure() const { return alignment::make_procedure(settings); }
  std::string label() const;  // "best_of_n 4", "kth_of_n 8 k=7"
  std::string yaml() const;   // "procedure: best_of_n, n: 4"
};

using KeyValues = std::vector<std::pair<std::string, std::string>>;

/// `option` is what errors name, e.g. "--procedure"; `more` are keys given by options of their own.
/// Errors: ConfigurationError.
ProcedureSpec parse_procedure(std::string_view option, const std::string& spec, const KeyValues& more = {});
/// SPEC,SPEC,...
std::vector<ProcedureSpec> parse_procedures(std::string_view option, const std::string& list);

/// A share of production, and who plays on either side.
struct MatchupSpec {
  double share = 1;
  ProcedureSpec policy;
  std::optional<ProcedureSpec> opponent;  // the same procedure unless given
};
/// SHARE:SPEC,SHARE:SPEC,...
std::vector<MatchupSpec> parse_mix(std::string_view option, const std::string& list);
/// Errors: ConfigurationError if it has no closed form.
alignment::Deployment deployment_of(const std::vector<MatchupSpec>& matchups);
std::string label_of(const std::vector<MatchupSpec>& matchups);
/// The configuration's line: "inference: {procedure: best_of_n, n: 4}".
std::string inference_yaml(const std::vector<MatchupSpec>& matchups);

/// `name[:parameter]`: exponential:10, truncated:0.5, points:0/0/0.5/0.1/1/1; `exponential` alone leaves t to
/// be chosen.
struct TransformSpec {
  std::string name;  // as it was written
  alignment::TransformSettings settings;
  bool choose_exponent = false;

  void choose(double exponent);  // names it too
  std::string yaml() const;      // "transform: exponential, exponent: 10"
};
/// NAME,NAME,... Errors: ConfigurationError, also for transforms without a closed form.
std::vector<TransformSpec> parse_transforms(std::string_view option, const std::string& list);

}  // namespace infalign::stages
