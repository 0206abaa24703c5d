// Step 2 of CTRL: the transform Phi of the calibrated reward; R = Phi(C) is what the policy gradient sees
// (method, section 4). This is the only place where training learns which inference-time procedure it is
// meant for.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/alignment/deployment.h"

namespace infalign::alignment {

enum class TransformKind {
  kIdentity,
  kLog,
  kExponential,
  kPower,
  kLogit,
  kNormal,
  kTruncated,
  kPoints,
  kOptimal,
  kLeaveOneOut,
  kRaw,
  kZScore
};

/// "identity", "log", "exponential", ...: the names of the configuration.
/// Errors: std::invalid_argument listing the known names.
TransformKind transform_kind(const std::string& name);
std::string transform_name(TransformKind kind);
const std::vector<std::string>& transform_names();

/// True for functions of C. Raw and zscore see the uncalibrated reward, leave_one_out all samples of a prompt
/// together (leave_one_out.h).
bool is_calibrated(TransformKind kind);
/// True if Phi depends on beta and has to be solved again when beta moves (optimal).
bool depends_on_beta(TransformKind kind);

struct TransformSettings {
  TransformKind kind = TransformKind::kIdentity;
  double exponent = 10;  // t of exponential, positive for best_of_n, negative for worst_of_n
  double cut = 0;        // lambda of truncated, in [0, 1)
  std::vector<double> points =
      {};                     // of points: u, Phi(u), u, Phi(u), ... from u = 0 to u = 1, both ascending
  std::int64_t rollouts = 0;  // K of the calibration; 0: C is exact (theory)
  bool normalised =
      true;  // bounded transforms to [0, 1]; identity, log, logit, normal, optimal keep their scale
  bool debiased = false;  // exponential: see debiased_exponential
};

/// Phi, increasing on [0, 1]:
///   exponential  sign(t) e^(tu)
///   power        the small-KL limit of the fixed point, the integral of h(u) k(u) over the opponent's and
///   the
///                policy's densities: u^(2N-1) for best_of_n, -(1-u)^(2N-1) for worst_of_n
///   log, logit, normal   log u, log(u/(1-u)), the normal quantile; with K rollouts of the ranks (Ku+1)/(K+1)
///   for
///                log and (Ku+1)/(K+2) for the others, which are never 0 or 1
///   truncated    max(u - cut, 0)
///   points       a monotone cubic through them
///   optimal      the fixed point for (deployment, beta) as a monotone cubic table, constant outside [0, 1];
///   only
///                this one reads beta
/// Errors: std::invalid_argument for kinds that are no function of C or impossible settings; those of
/// solve_fixed_point.
std::function<double(double)> make_transform(const TransformSettings& settings, const Deployment& deployment,
                                             double beta);

/// e^(tC) estimated from C_hat = m/K without bias. The plug-in overshoots: E e^(t C_hat) = (1 - C + C
/// e^(t/K))^K. The sum over j <= m of t^j/j! m(m-1)..(m-j+1)/(K(K-1)..(K-j+1)) has the expectation sum over j
/// <= K of (tC)^j/j!, short of e^(tC) by less than t^(K+1)/(K+1)!. Returned for m = 0..K; for t < 0 from the
/// other end. Errors: std::invalid_argument for K < 1 or |t| > 700.
std::vector<double> debiased_exponential(double t, std::int64_t rollouts);

}  // namespace infalign::alignment
