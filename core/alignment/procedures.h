// Inference-time procedures T: how answers are drawn in production. A calibrated procedure reweights a
// response by h of its own rank: T(pi)(y) = pi(y) h(C_pi(y)) (method, section 3). Everything that is known of
// a procedure stands in one row of the registry in procedures.cpp; theory, estimators and generation only
// ever ask a Procedure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace infalign::alignment {

struct Procedure {
  std::string name;  // "best_of_n"
  std::int64_t n = 1;
  std::function<double(double)> density;     // h(q), integral 1 over [0, 1]
  std::function<double(double)> cumulative;  // H(q)
  /// The index of the answer among n candidates by their selecting rewards (first at a tie).
  /// Errors: std::invalid_argument without candidates, std::domain_error for NaN.
  std::function<std::size_t(std::span<const float>)> select;
  /// The chance that the i-th smallest of M >= n samples is the answer when n are drawn without replacement,
  /// [M].
  std::function<std::vector<double>(std::int64_t samples)> order_weights;
};

/// The registry: "standard" (its n is 1, whatever is asked), "best_of_n", "worst_of_n".
/// Errors: std::invalid_argument listing the known names, or for n < 1.
Procedure make_procedure(const std::string& name, std::int64_t n);
const std::vector<std::string>& procedure_names();

}  // namespace infalign::alignment
