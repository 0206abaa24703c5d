// Step 2 of CTRL: the transform Phi of the calibrated reward; R = Phi(C) is what the policy gradient sees
// (method, section 4). This is the only place where training learns which inference-time procedure it is
// meant for.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/alignment/procedures.h"

namespace infalign::alignment {

enum class TransformKind { kIdentity, kLog, kExponential, kPower, kOptimal, kRaw, kZScore };

/// "identity", "log", "exponential", "power", "optimal", "raw", "zscore".
/// Errors: std::invalid_argument listing the known names.
TransformKind transform_kind(const std::string& name);
std::string transform_name(TransformKind kind);
const std::vector<std::string>& transform_names();

/// True for transforms of C; false for raw and zscore, which see the uncalibrated reward.
bool is_calibrated(TransformKind kind);
/// True if Phi depends on beta and has to be solved again when beta moves (optimal).
bool depends_on_beta(TransformKind kind);

struct TransformSettings {
  TransformKind kind = TransformKind::kIdentity;
  double exponent = 10;       // t of exponential, positive for best_of_n, negative for worst_of_n
  std::int64_t rollouts = 0;  // K of the calibration: log uses rank (i + 1)/(K + 1); 0: log u itself (theory)
  bool normalised = true;     // to [0, 1] (identity, log and optimal keep their own scale)
};

/// Phi, increasing on [0, 1]. Exponential: sign(t) e^(tu); power: u^(2N-1), or -(1-u)^(2N-1) for worst_of_n;
/// optimal: the fixed point for (procedure, beta), as a monotone cubic table, constant outside [0, 1]; only
/// optimal reads beta. Errors: std::invalid_argument for raw and zscore or an impossible setting; those of
/// solve_fixed_point.
std::function<double(double)> make_transform(const TransformSettings& settings, const Procedure& procedure,
                                             double beta);

}  // namespace infalign::alignment
