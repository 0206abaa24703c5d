// Closed forms: what the best policy for a transform reaches. With C uniform under pi_ref the optimum is
// p(u) = exp(Phi(u)/beta)/Z on [0, 1], whatever the prompt, the reward model or the model (method, section
// 3), so a run can be designed in milliseconds, before any model is loaded. The derivations are in
// docs/method.md.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/alignment/deployment.h"
#include "core/alignment/quadrature.h"

namespace infalign::alignment {

/// The optimal policy's density of u = C and its cumulative, on panels fine enough for 1e-9.
class OptimalPolicy {
 public:
  /// For R = transform (increasing) and KL weight beta > 0. The maximum is shifted out, so any beta is safe.
  /// Errors: std::invalid_argument for beta, std::domain_error for a transform that is NaN, +infinite, or not
  /// finite at 1, std::runtime_error for one too rough to be integrated.
  OptimalPolicy(const std::function<double(double)>& transform, double beta);

  double density(double u) const;     // p
  double cumulative(double u) const;  // G
  double kl() const { return kl_; }   // KL(pi || pi_ref), nats
  /// 1 - integral of H(G(u)) h(u) du, H the policy's procedure and h the opponent's, averaged over matchups.
  /// Errors: std::invalid_argument for a procedure that is not calibrated.
  double win_rate(const Deployment& deployment) const;

 private:
  struct Panel {
    double begin, end;
    double below;                                              // G(begin)
    PanelRule::Values log_density{}, density{}, cumulative{};  // at the panel's nodes
  };
  double win_rate(const Matchup& matchup) const;
  double inverse_cumulative(double probability) const;
  Panel sample(double begin, double end) const;
  void refine(const Panel& panel, double tolerance, int depth);
  double log_relative_density(double u) const;  // (Phi(u) - peak)/beta

  std::function<double(double)> transform_;
  double beta_, peak_ = 0, log_normaliser_ = 0;
  std::vector<Panel> panel_;  // left to right over [0, 1]
  double kl_ = 0;
};

/// The fixed point Phi' = sum of share h(u) h(G(u)), p = G' proportional to exp(Phi/beta), h(u) the
/// opponent's and h(G) the policy's (method, section 4; docs/method.md): the transform whose ordinary RLHF
/// optimum maximises the inference-time win rate itself.
struct FixedPoint {
  std::vector<double> u;      // ascending grid on [0, 1]
  std::vector<double> phi;    // Phi there, Phi(0) = 0
  std::vector<double> slope;  // Phi' there
  double density_at_0 = 1, density_at_1 = 1;
  double residual = 0;  // how far the identity of the win rate is missed (docs/method.md)
  double inference_win_rate = 0;
  double kl = 0;
};
/// Best-of-N and Worst-of-N against themselves: the equation is unchanged under a scaling of u and G, so one
/// initial-value integration along its universal curve meets the boundary condition at exactly one point. All
/// other deployments: shooting (shooting.h). Errors: std::invalid_argument for beta <= 0 or a procedure that
/// is not calibrated; std::runtime_error when the identity is missed or the curve cannot be followed (never a
/// wrong curve).
FixedPoint solve_fixed_point(const Deployment& deployment, double beta);

struct Prediction {
  double beta = 0, kl = 0, standard_win_rate = 0, inference_win_rate = 0, density_at_0 = 0, density_at_1 = 0;
};
/// A transform that may depend on beta.
using TransformAt = std::function<std::function<double(double)>(double beta)>;
/// What `transform_at(beta)` reaches under `deployment` at beta.
Prediction predict(const TransformAt& transform_at, const Deployment& deployment, double beta);
struct BetaSearch {
  double start = 0.1;        // a first guess of beta
  double tolerance = 1e-10;  // of the KL, relative
};
/// The beta at which `kl_at(beta)`, which falls, is `kl`: a bracketed search on log beta.
/// Errors: std::runtime_error if no beta between 1e-13 and 1e13 gives it.
double beta_at_kl(const std::function<double(double beta)>& kl_at, double kl, const BetaSearch& search = {});

/// What `transform_at` reaches at the beta that gives this KL. Errors: std::runtime_error if no beta gives
/// it.
Prediction predict_at_kl(const TransformAt& transform_at, const Deployment& deployment, double kl,
                         const BetaSearch& search = {});

/// Both for the optimal transform, read from the fixed point itself: several times faster than through its
/// table, and precise to the solver's rounding. Errors: those of solve_fixed_point, and of predict_at_kl.
Prediction predict_optimal(const Deployment& deployment, double beta);
Prediction predict_optimal_at_kl(const Deployment& deployment, double kl, const BetaSearch& search = {});

}  // namespace infalign::alignment
