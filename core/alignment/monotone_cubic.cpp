#include "core/alignment/monotone_cubic.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace infalign::alignment {

MonotoneCubic::MonotoneCubic(std::span<const double> x, std::span<const double> y,
                             std::span<const double> slope) {
  if (x.size() < 2 || y.size() != x.size() || slope.size() != x.size()) {
    throw std::invalid_argument("a curve needs at least two points, each with its value and slope");
  }
  std::vector<double> limited(slope.begin(), slope.end());
  for (std::size_t i = 0; i + 1 < x.size(); ++i) {
    if (x[i] == x[i + 1] && y[i] <= y[i + 1] && slope[i] >= 0 && slope[i + 1] >= 0) continue;
    const double secant = (y[i + 1] - y[i]) / (x[i + 1] - x[i]);
    if (!(x[i] < x[i + 1] && secant >= 0 && std::isfinite(secant) && slope[i] >= 0 && slope[i + 1] >= 0)) {
      throw std::invalid_argument("a curve's points must ascend, and its slopes must not be negative");
    }
    // Inside the circle of radius 3 secants the piece is monotone; outside, both slopes shrink onto it.
    const double length = std::hypot(limited[i], limited[i + 1]);
    if (length > 3 * secant) {
      limited[i] *= 3 * secant / length;
      limited[i + 1] *= 3 * secant / length;
    }
  }
  for (std::size_t i = 0; i + 1 < x.size(); ++i) {
    if (x[i] == x[i + 1]) continue;
    const double width = x[i + 1] - x[i], secant = (y[i + 1] - y[i]) / width;
    start_.push_back(x[i]);
    piece_.push_back({y[i], limited[i], (3 * secant - 2 * limited[i] - limited[i + 1]) / width,
                      (limited[i] + limited[i + 1] - 2 * secant) / (width * width)});
  }
  last_x_ = x.back();
  last_y_ = y.back();

  constexpr std::size_t kCellsPerPoint = 4;  // points are not evenly spaced, and cells are small
  const std::size_t cells = kCellsPerPoint * x.size();
  cells_ = static_cast<double>(cells);
  cells_per_x_ = cells_ / (last_x_ - start_.front());
  guide_.assign(cells + 2, 0);
  for (std::size_t i = 0; i < start_.size(); ++i) guide_[cell(start_[i]) + 1] = static_cast<std::uint32_t>(i);
  std::size_t most = 0;
  for (std::size_t c = 1; c < guide_.size(); ++c) {
    guide_[c] = std::max(guide_[c], guide_[c - 1]);
    most = std::max<std::size_t>(most, guide_[c] - guide_[c - 1]);
  }
  reach_ = std::bit_ceil(most + 1) / 2;
  start_.resize(start_.size() + 2 * reach_, std::numeric_limits<double>::infinity());
}

std::size_t MonotoneCubic::cell(double x) const {
  return static_cast<std::size_t>(std::min((x - start_.front()) * cells_per_x_, cells_));
}

MonotoneCubic MonotoneCubic::through(std::span<const double> x, std::span<const double> y) {
  if (x.size() < 2 || y.size() != x.size()) throw std::invalid_argument("a curve needs at least two points");
  const auto secant = [&](std::size_t i) { return (y[i + 1] - y[i]) / (x[i + 1] - x[i]); };
  std::vector<double> slope(x.size());
  slope.front() = secant(0);
  slope.back() = secant(x.size() - 2);
  for (std::size_t i = 1; i + 1 < x.size(); ++i) {
    const double before = secant(i - 1), after = secant(i);
    slope[i] = before > 0 && after > 0 ? 2 * before * after / (before + after) : 0;
  }
  return MonotoneCubic(x, y, slope);
}

double MonotoneCubic::operator()(double x) const {
  if (x >= last_x_) return last_y_;
  if (!(x > start_.front())) return std::isnan(x) ? x : piece_.front().y;
  // A start in an earlier cell lies below x, one in a later cell above it, for cell() ascends even as
  // rounded. No branch on the data, and equally many steps for all: a mispredicted branch costs more than the
  // search.
  const double* first = start_.data() + guide_[cell(x)];
  for (std::size_t half = reach_; half > 0; half /= 2)
    first += static_cast<std::size_t>(first[half] <= x) * half;
  const Piece& piece = piece_[static_cast<std::size_t>(first - start_.data())];
  const double t = x - *first;
  return piece.y + t * (piece.slope + t * (piece.quadratic + t * piece.cubic));
}

}  // namespace infalign::alignment
