#include "core/alignment/transform.h"

#include <cmath>
#include <memory>
#include <stdexcept>

#include "core/alignment/monotone_cubic.h"
#include "core/alignment/powers.h"
#include "core/alignment/theory.h"

namespace infalign::alignment {
namespace {

struct Row {
  TransformKind kind;
  const char* name;
};
constexpr Row kTransforms[] = {
    {TransformKind::kIdentity, "identity"},       {TransformKind::kLog, "log"},
    {TransformKind::kExponential, "exponential"}, {TransformKind::kPower, "power"},
    {TransformKind::kOptimal, "optimal"},         {TransformKind::kRaw, "raw"},
    {TransformKind::kZScore, "zscore"},
};

/// With K rollouts u = i/K, and its rank (i + 1)/(K + 1) is never 0.
std::function<double(double)> log_transform(std::int64_t rollouts) {
  if (rollouts < 0) throw std::invalid_argument("transform log: rollouts must not be negative");
  if (rollouts == 0) return [](double u) { return std::log(u); };
  return [k = static_cast<double>(rollouts)](double u) { return std::log((k * u + 1) / (k + 1)); };
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

std::function<double(double)> power_transform(const Procedure& procedure, bool normalised) {
  const std::int64_t exponent = 2 * procedure.n - 1;
  if (procedure.name != "worst_of_n") return [exponent](double u) { return whole_power(u, exponent); };
  return [exponent, top = normalised ? 1.0 : 0.0](double u) { return top - whole_power(1 - u, exponent); };
}

std::function<double(double)> optimal_transform(const Procedure& procedure, double beta) {
  const FixedPoint point = solve_fixed_point(procedure, beta);
  auto table = std::make_shared<const MonotoneCubic>(point.u, point.phi, point.slope);
  return [table = std::move(table)](double u) { return (*table)(u); };
}

}  // namespace

TransformKind transform_kind(const std::string& name) {
  for (const Row& row : kTransforms) {
    if (name == row.name) return row.kind;
  }
  std::string known;
  for (const std::string& each : transform_names()) known += (known.empty() ? "" : ", ") + each;
  throw std::invalid_argument("unknown transform \"" + name + "\"; known: " + known);
}

std::string transform_name(TransformKind kind) {
  for (const Row& row : kTransforms) {
    if (kind == row.kind) return row.name;
  }
  throw std::invalid_argument("not a transform");
}

const std::vector<std::string>& transform_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Row& row : kTransforms) all.emplace_back(row.name);
    return all;
  }();
  return names;
}

bool is_calibrated(TransformKind kind) {
  return kind != TransformKind::kRaw && kind != TransformKind::kZScore;
}

bool depends_on_beta(TransformKind kind) { return kind == TransformKind::kOptimal; }

std::function<double(double)> make_transform(const TransformSettings& settings, const Procedure& procedure,
                                             double beta) {
  switch (settings.kind) {
    case TransformKind::kIdentity:
      return [](double u) { return u; };
    case TransformKind::kLog:
      return log_transform(settings.rollouts);
    case TransformKind::kExponential:
      return exponential_transform(settings.exponent, settings.normalised);
    case TransformKind::kPower:
      return power_transform(procedure, settings.normalised);
    case TransformKind::kOptimal:
      return optimal_transform(procedure, beta);
    case TransformKind::kRaw:
    case TransformKind::kZScore:
      break;
  }
  throw std::invalid_argument("transform " + transform_name(settings.kind) +
                              " is not a function of the calibrated reward");
}

}  // namespace infalign::alignment
