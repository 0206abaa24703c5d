// Order statistics: the i-th smallest of n exchangeable samples. Every procedure whose choice depends on the
// candidates' ranks alone is a vector of weights on the order statistics of its n candidates, and everything
// that is known of it follows from that vector: h and H are polynomials in Bernstein form, and the weights on
// more samples than n, from which win rates are estimated without replacement, are a degree elevation.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace infalign::alignment {

/// The law of a choice among `weights.size()` of `samples` drawn without replacement, as weights on the order
/// statistics of all `samples`: w_j = sum over i of v_i C(j-1, i-1) C(M-j, n-i)/C(M, n). [samples], the sum
/// is that of `weights`. O(M) for each weight that is not 0, O(M (M - n)) at most; exact to rounding (all
/// terms are positive). Errors: std::invalid_argument for fewer samples than weights.
std::vector<double> elevate(std::span<const double> weights, std::int64_t samples);

/// sum over k of coefficient[k] C(d, k) q^k (1-q)^(d-k), d = coefficient.size() - 1, for q in [0, 1]. Summed
/// outwards from the largest binomial term, so nothing overflows; a relative error of about 1e-13 at d =
/// 1,024.
class BernsteinPolynomial {
 public:
  /// Errors: std::invalid_argument without coefficients.
  explicit BernsteinPolynomial(std::vector<double> coefficient);
  double operator()(double q) const;

 private:
  std::vector<double> coefficient_;
  std::vector<double> log_binomial_;    // log C(d, k)
  std::int64_t first_ = 0, last_ = -1;  // the coefficients that are not zero lie in [first_, last_]
};

/// h(q) = sum over i of v_i times the density of the i-th smallest of n uniform numbers (Beta(i, n-i+1)).
BernsteinPolynomial rank_density(std::span<const double> weights);
/// H(q) = sum over i of v_i I_q(i, n-i+1).
BernsteinPolynomial rank_cumulative(std::span<const double> weights);

}  // namespace infalign::alignment
