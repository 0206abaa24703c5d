#include "core/alignment/curve.h"

namespace infalign::alignment {

std::vector<Knot> knots(std::span<const Stretch> curve, const KnotAt& knot_at, double tolerance,
                        double large) {
  constexpr int kMostPieces = 1024;
  constexpr double kSameSlope = 1e-6;
  std::vector<Knot> result;
  for (const Stretch& stretch : curve) {
    const auto at = [&](double t) { return knot_at(stretch, stretch.at(t)); };
    std::vector<Knot> chain;
    bool close = false;
    for (int pieces = 1; !close; pieces *= 2) {
      if (pieces > kMostPieces)
        throw std::runtime_error("the table of the transform cannot be made close enough");
      chain.assign(1, knot_at(stretch, stretch.begin));
      for (int i = 1; i < pieces; ++i) chain.push_back(at(static_cast<double>(i) / pieces));
      chain.push_back(knot_at(stretch, stretch.end));
      close = true;
      for (int i = 0; i < pieces && close; ++i) {
        const Knot &a = chain[static_cast<std::size_t>(i)], &b = chain[static_cast<std::size_t>(i) + 1];
        const double cubic = 0.5 * (a.phi + b.phi) + (b.u - a.u) * (a.slope - b.slope) / 8;
        const double exact = at((i + 0.5) / pieces).phi;
        close = std::abs(cubic - exact) <= tolerance * std::max(1.0, std::abs(exact) / large);
      }
    }
    const auto same_slope = [](double one, double other) {
      return std::abs(one - other) <= kSameSlope * std::max(std::abs(one), std::abs(other));
    };
    const bool smooth = !result.empty() && same_slope(result.back().slope, chain.front().slope);
    result.insert(result.end(), chain.begin() + (smooth ? 1 : 0), chain.end());
  }
  return result;
}

}  // namespace infalign::alignment
