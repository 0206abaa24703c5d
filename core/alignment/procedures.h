// Inference-time procedures T: how answers are drawn in production. A calibrated procedure reweights a response by h of its own rank:
// T(pi)(y) = pi(y) h(C_pi(y)) (method, section 3).
#pragma once

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
  std::function<std::size_t(std::span<const float>)> select;
};

/// The registry: "standard", "best_of_n", "worst_of_n". Errors: std::invalid_argument listing the known names.
Procedure make_procedure(const std::string& name, std::int64_t n);
const std::vector<std::string>& procedure_names();

}  // namespace infalign::alignment
