#include "core/alignment/best_exponential.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>

#include "core/alignment/transform.h"

namespace infalign::alignment {
namespace {

Prediction at_kl(const Deployment& deployment, double exponent, double kl) {
  TransformSettings settings;
  settings.kind = TransformKind::kExponential;
  settings.exponent = exponent;
  const auto phi = make_transform(settings, deployment, 1);
  return predict_at_kl([&](double) { return phi; }, deployment, kl);
}

/// -1 where this t does not reach the KL.
double win_rate_at(const Deployment& deployment, double exponent, double kl) {
  try {
    return at_kl(deployment, exponent, kl).inference_win_rate;
  } catch (const std::runtime_error&) {
    return -1;
  }
}

double three_digits(double x) {
  const double unit = std::pow(10.0, std::floor(std::log10(std::abs(x))) - 2);
  // Divided where the unit is below 1: 0.1 is no double, but 10 is, and so 10.3 stays 10.3.
  return unit < 1 ? std::round(x / unit) / std::round(1 / unit) : std::round(x / unit) * unit;
}

}  // namespace

BestExponential best_exponential(const Deployment& deployment, double kl) {
  constexpr double kGrid[] = {0.05, 0.25, 1, 2, 3.5, 6, 12};  // times the number of candidates
  constexpr double kLargest = 500, kPrecise = 0.01;
  if (!deployment.is_calibrated()) {
    throw std::invalid_argument("the choice of " + deployment.name() +
                                " does not follow from ranks: no win rate in closed form");
  }
  const auto n = static_cast<double>(deployment.candidates());
  double sign = 1, best = 0, most = -1;  // best: log |t|
  for (double trial : {1.0, -1.0}) {
    double previous = -1;
    for (double times : kGrid) {  // for as long as it improves: very steep ones are slow to integrate
      const double magnitude = std::min(times * n, kLargest);
      const double rate = win_rate_at(deployment, trial * magnitude, kl);
      if (rate > most) sign = trial, best = std::log(magnitude), most = rate;
      if (rate < previous) break;
      previous = rate;
    }
  }
  if (most < 0) throw std::runtime_error("no exponential transform reaches KL " + std::to_string(kl));
  // The maximum lies within one step of the grid's best.
  constexpr double kWidestStep = 1.7;  // log of the grid's largest ratio
  double low = std::max(best - kWidestStep, std::log(kGrid[0] * n)),
         high = std::min(best + kWidestStep, std::log(kLargest));
  const auto rate = [&](double x) { return win_rate_at(deployment, sign * std::exp(x), kl); };
  constexpr double kGolden = 1 / std::numbers::phi;
  double left = high - kGolden * (high - low), right = low + kGolden * (high - low);
  double f_left = rate(left), f_right = rate(right);
  while (high - low > kPrecise) {
    if (f_left < f_right) {
      low = left, left = right, f_left = f_right;
      right = low + kGolden * (high - low), f_right = rate(right);
    } else {
      high = right, right = left, f_right = f_left;
      left = high - kGolden * (high - low), f_left = rate(left);
    }
  }
  const double refined = std::midpoint(low, high);
  BestExponential result;
  result.exponent = three_digits(sign * std::exp(rate(refined) >= most ? refined : best));
  result.prediction = at_kl(deployment, result.exponent, kl);
  return result;
}

std::optional<double> saturation_kl(const Deployment& deployment, double exponent, double kl, double margin,
                                    double highest) {
  const auto falls_behind = [&](double at) {
    const double rate = win_rate_at(deployment, exponent, at);
    if (rate >= 1 - margin) return false;
    return rate < 0 || predict_optimal_at_kl(deployment, at).inference_win_rate - rate > margin;
  };
  if (falls_behind(kl)) return kl;
  constexpr double kStep = 1.3, kPrecise = 1.05;
  double low = kl, high = kl;
  do {
    low = high;
    if (low >= highest) return std::nullopt;
    high = std::min(low * kStep, highest);
  } while (!falls_behind(high));
  while (high > low * kPrecise) {
    const double middle = std::sqrt(low * high);
    (falls_behind(middle) ? high : low) = middle;
  }
  return std::sqrt(low * high);
}

}  // namespace infalign::alignment
