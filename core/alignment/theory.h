// Closed forms: what the best policy for a transform reaches. With C uniform under pi_ref the optimum is p(u) = exp(Phi(u)/beta)/Z on [0, 1],
// whatever the prompt, the reward model or the model (method, section 3).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/alignment/procedures.h"

namespace infalign::alignment {

/// The optimal policy's density of u = C and its cumulative, on a grid fine enough for 1e-7.
class OptimalPolicy {
 public:
  /// For R = transform and KL weight beta > 0. The maximum is shifted out, so any beta is safe.
  OptimalPolicy(const std::function<double(double)>& transform, double beta);

  double density(double u) const;     // p
  double cumulative(double u) const;  // G
  double kl() const { return kl_; }   // KL(pi || pi_ref), nats
  /// W_T with the same procedure on both sides: 1 - integral of H(G(u)) h(u) du.
  double win_rate(const Procedure& procedure) const;
  double win_rate(const Procedure& policy_side, const Procedure& opponent_side) const;

 private:
  std::vector<double> node_, weight_, density_, cumulative_;
  double kl_ = 0;
};

/// The fixed point Phi' = h(u) h(G(u)), p = G' proportional to exp(Phi/beta), of Best-of-N or Worst-of-N (method, section 4).
struct FixedPoint {
  std::vector<double> u;    // ascending grid on [0, 1]
  std::vector<double> phi;  // Phi there, Phi(0) = 0
  double density_at_0 = 1, density_at_1 = 1;
  double residual = 0;            // how far the identity W_BoN = (beta/N)(p(1) - 1), W_WoN = 1 - (beta/N)(1 - p(0)), is missed
  double inference_win_rate = 0;
  double kl = 0;
};
/// Errors: std::runtime_error when the iteration does not converge (never a wrong curve).
FixedPoint solve_fixed_point(const Procedure& procedure, double beta);

struct Prediction {
  double beta = 0, kl = 0, standard_win_rate = 0, inference_win_rate = 0, density_at_0 = 0, density_at_1 = 0;
};
/// What `transform_at(beta)` reaches under `procedure` at beta.
Prediction predict(const std::function<std::function<double(double)>(double beta)>& transform_at,
                   const Procedure& procedure, double beta);
/// The same at the beta that gives this KL (found by bisection on log beta). Errors: std::runtime_error if no beta gives it.
Prediction predict_at_kl(const std::function<std::function<double(double)>(double beta)>& transform_at,
                         const Procedure& procedure, double kl);

}  // namespace infalign::alignment
