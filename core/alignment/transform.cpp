#include "core/alignment/transform.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "core/alignment/monotone_cubic.h"
#include "core/alignment/powers.h"
#include "core/alignment/quadrature.h"
#include "core/alignment/theory.h"

namespace infalign::alignment {
namespace {

struct TransformRow {
  TransformKind kind;
  const char* name;
};
constexpr TransformRow kTransforms[] = {
    {TransformKind::kIdentity, "identity"},
    {TransformKind::kLog, "log"},
    {TransformKind::kExponential, "exponential"},
    {TransformKind::kPower, "power"},
    {TransformKind::kLogit, "logit"},
    {TransformKind::kNormal, "normal"},
    {TransformKind::kTruncated, "truncated"},
    {TransformKind::kPoints, "points"},
    {TransformKind::kOptimal, "optimal"},
    {TransformKind::kLeaveOneOut, "leave_one_out"},
    {TransformKind::kRaw, "raw"},
    {TransformKind::kZScore, "zscore"},
};

/// With K rollouts u = i/K, and its rank (i + 1)/(K + 1) is never 0.
std::function<double(double)> log_transform(std::int64_t rollouts) {
  if (rollouts < 0) throw std::invalid_argument("transform log: rollouts must not be negative");
  if (rollouts == 0) return [](double u) { return std::log(u); };
  return [k = static_cast<double>(rollouts)](double u) { return std::log((k * u + 1) / (k + 1)); };
}

/// The x at which the normal distribution's cumulative is p, by Newton's steps on the logarithm of the lower
/// tail. It is concave and -sqrt(-2 log p) lies below the root, so the steps rise to it and never pass it.
double normal_quantile(double p) {
  if (p <= 0) return -std::numeric_limits<double>::infinity();
  if (p >= 1) return std::numeric_limits<double>::infinity();
  const double tail = std::min(p, 1 - p);  // of the lower half: erfc is precise there
  double x = -std::sqrt(-2 * std::log(tail));
  for (int step = 0; step < 100; ++step) {
    const double cumulative = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    // On log p the cumulative is concave and Newton's steps from 0 go down to the root without passing it by
    // far.
    const double move = (std::log(cumulative) - std::log(tail)) * cumulative / density;
    x -= move;
    if (std::abs(move) < 1e-14 * std::max(1.0, std::abs(x))) break;
  }
  return p < 0.5 ? x : -x;
}

/// Both signs of t give (e^(tu) - 1)/(e^t - 1) once normalised; for t > 0 both parts are divided by e^t, so
/// that no exponent is positive and nothing overflows.
std::function<double(double)> exponential_transform(double t, bool normalised) {
  constexpr double kLargestRaw = 700;
  if (!std::isfinite(t) || t == 0)
    throw std::invalid_argument("transform exponential: the exponent must not be 0");
  if (!normalised) {
    if (t > kLargestRaw)
      throw std::invalid_argument("transform exponential: e^t overflows unless it is normalised");
    return [t](double u) { return std::copysign(std::exp(t * u), t); };
  }
  if (t < 0)
    return [t, scale = 1 / std::expm1(t)](double u) { return u == 1 ? 1.0 : std::expm1(t * u) * scale; };
  return [t, scale = 1 / std::expm1(-t)](double u) {
    return u == 1 ? 1.0 : std::exp(t * (u - 1)) * std::expm1(-t * u) * scale;
  };
}

/// The table of debiased_exponential, with ties (half ranks) half-way between, on the scale of
/// exponential_transform.
std::function<double(double)> debiased_exponential_transform(double t, std::int64_t rollouts,
                                                             bool normalised) {
  std::vector<double> table = debiased_exponential(t, rollouts);
  for (double& value : table) {
    value = normalised ? (value - 1) / std::expm1(t) : std::copysign(value, t);
  }
  return [table = std::move(table), K = static_cast<double>(rollouts)](double u) {
    const double rank = std::clamp(u, 0.0, 1.0) * K, below = std::floor(rank);
    const auto at = static_cast<std::size_t>(below);
    return at + 1 < table.size() ? std::lerp(table[at], table[at + 1], rank - below) : table.back();
  };
}

/// Ranks with K rollouts, never 0 or 1; u itself without.
double inner_rank(double u, double K) { return K > 0 ? (K * u + 1) / (K + 2) : u; }

std::function<double(double)> logit_transform(double K) {
  return [K](double u) {
    const double rank = inner_rank(u, K);
    return std::log(rank / (1 - rank));
  };
}

std::function<double(double)> normal_transform(double K) {
  return [K](double u) { return normal_quantile(inner_rank(u, K)); };
}

std::function<double(double)> truncated_transform(double cut, bool normalised) {
  if (!(cut >= 0 && cut < 1)) throw std::invalid_argument("transform truncated: cut must lie in [0, 1)");
  return [cut, scale = normalised ? 1 / (1 - cut) : 1.0](double u) { return std::max(u - cut, 0.0) * scale; };
}

std::function<double(double)> points_transform(const std::vector<double>& points, bool normalised) {
  std::vector<double> u, phi;
  for (std::size_t i = 0; i + 1 < points.size(); i += 2) u.push_back(points[i]), phi.push_back(points[i + 1]);
  const bool whole = points.size() % 2 == 0 && u.size() >= 2 && u.front() == 0 && u.back() == 1;
  if (!whole || !(phi.back() > phi.front())) {
    throw std::invalid_argument(
        "transform points: give u, Phi(u), u, Phi(u), ... from u = 0 to u = 1, rising somewhere");
  }
  if (normalised) {
    const double low = phi.front(), range = phi.back() - low;
    for (double& each : phi) each = (each - low) / range;
  }
  return MonotoneCubic::through(u, phi);
}

/// The integral of h k from 0, on panels that grow finer towards both ends.
std::function<double(double)> small_kl_transform(const Deployment& deployment, bool normalised) {
  constexpr int kPanels = 4096;
  const PanelRule& rule = panel_rule();
  const auto slope = [&](double u) {
    double sum = 0;
    for (const Matchup& matchup : deployment.matchups())
      sum += matchup.share * matchup.policy.density(u) * matchup.opponent.density(u);
    return sum;
  };
  std::vector<double> edges{0};
  for (int i = 1; i < kPanels; ++i) edges.push_back(0.5 - 0.5 * std::cos(std::numbers::pi * i / kPanels));
  for (const Matchup& matchup : deployment.matchups()) {
    for (const Procedure* side : {&matchup.policy, &matchup.opponent})
      edges.insert(edges.end(), side->breaks.begin(), side->breaks.end());
  }
  edges.push_back(1);
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  std::vector<double> phi{0};
  for (std::size_t e = 0; e + 1 < edges.size(); ++e) {
    const double width = edges[e + 1] - edges[e];
    double sum = 0;
    for (std::size_t i = 0; i < PanelRule::kNodes; ++i)
      sum += rule.weight[i] * slope(edges[e] + width * rule.node[i]);
    phi.push_back(phi.back() + width * sum);
  }
  if (normalised)
    for (double& each : phi) each /= phi.back();
  return MonotoneCubic::through(edges, phi);
}

std::function<double(double)> power_transform(const Deployment& deployment, bool normalised) {
  const Matchup& only = deployment.matchups().front();
  const std::int64_t exponent = 2 * only.policy.n - 1;
  const bool alone = deployment.matchups().size() == 1 && only.policy.name == only.opponent.name &&
                     only.policy.n == only.opponent.n;
  if (alone && (only.policy.name == "best_of_n" || only.policy.name == "standard"))
    return [exponent](double u) { return whole_power(u, exponent); };
  if (alone && only.policy.name == "worst_of_n")
    return [exponent, top = normalised ? 1.0 : 0.0](double u) { return top - whole_power(1 - u, exponent); };
  if (!deployment.is_calibrated()) {
    throw std::invalid_argument("transform power: the choice of " + deployment.name() +
                                " does not follow from ranks; use leave_one_out");
  }
  return small_kl_transform(deployment, normalised);
}

std::function<double(double)> optimal_transform(const Deployment& deployment, double beta) {
  const FixedPoint point = solve_fixed_point(deployment, beta);
  auto table = std::make_shared<const MonotoneCubic>(point.u, point.phi, point.slope);
  return [table = std::move(table)](double u) { return (*table)(u); };
}

}  // namespace

TransformKind transform_kind(const std::string& name) {
  for (const TransformRow& row : kTransforms) {
    if (name == row.name) return row.kind;
  }
  std::string known;
  for (const std::string& each : transform_names()) known += (known.empty() ? "" : ", ") + each;
  throw std::invalid_argument("unknown transform \"" + name + "\"; known: " + known);
}

std::string transform_name(TransformKind kind) {
  for (const TransformRow& row : kTransforms) {
    if (kind == row.kind) return row.name;
  }
  throw std::invalid_argument("not a transform");
}

const std::vector<std::string>& transform_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const TransformRow& row : kTransforms) all.emplace_back(row.name);
    return all;
  }();
  return names;
}

bool is_calibrated(TransformKind kind) {
  return kind != TransformKind::kRaw && kind != TransformKind::kZScore && kind != TransformKind::kLeaveOneOut;
}

bool depends_on_beta(TransformKind kind) { return kind == TransformKind::kOptimal; }

std::vector<double> debiased_exponential(double t, std::int64_t rollouts) {
  constexpr double kLargest = 700;
  if (rollouts < 1 || !(std::abs(t) <= kLargest))
    throw std::invalid_argument("a debiased exponential needs rollouts and an exponent of at most 700");
  const auto K = static_cast<double>(rollouts);
  std::vector<double> table;
  for (std::int64_t m = 0; m <= rollouts; ++m) {
    double sum = 1, term = 1;
    for (std::int64_t j = 1; j <= m; ++j) {
      const auto i = static_cast<double>(j);
      term *= std::abs(t) / i * (static_cast<double>(m) - i + 1) / (K - i + 1);
      sum += term;
      if (term < 1e-18 * sum) break;
    }
    table.push_back(sum);
  }
  if (t < 0) {  // e^(tC) = e^t e^(|t| (1 - C)), and 1 - C_hat = (K - m)/K
    std::reverse(table.begin(), table.end());
    for (double& each : table) each *= std::exp(t);
  }
  return table;
}

std::function<double(double)> make_transform(const TransformSettings& settings, const Deployment& deployment,
                                             double beta) {
  const auto K = static_cast<double>(settings.rollouts);
  switch (settings.kind) {
    case TransformKind::kIdentity:
      return [](double u) { return u; };
    case TransformKind::kLog:
      return log_transform(settings.rollouts);
    case TransformKind::kExponential:
      return settings.debiased && settings.rollouts > 0
                 ? debiased_exponential_transform(settings.exponent, settings.rollouts, settings.normalised)
                 : exponential_transform(settings.exponent, settings.normalised);
    case TransformKind::kPower:
      return power_transform(deployment, settings.normalised);
    case TransformKind::kLogit:
      return logit_transform(K);
    case TransformKind::kNormal:
      return normal_transform(K);
    case TransformKind::kTruncated:
      return truncated_transform(settings.cut, settings.normalised);
    case TransformKind::kPoints:
      return points_transform(settings.points, settings.normalised);
    case TransformKind::kOptimal:
      return optimal_transform(deployment, beta);
    case TransformKind::kLeaveOneOut:
    case TransformKind::kRaw:
    case TransformKind::kZScore:
      break;
  }
  throw std::invalid_argument("transform " + transform_name(settings.kind) +
                              " is not a function of the calibrated reward");
}

}  // namespace infalign::alignment
