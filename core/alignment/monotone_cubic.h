// A curve through points that rises wherever they do: cubic Hermite interpolation whose slopes are limited so
// that no piece overshoots (Fritsch and Carlson 1980). Transforms that have no formula are kept this way,
// because a training step evaluates them once per sample: a lookup costs a table's entry, a short branch-free
// search and one cubic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace infalign::alignment {

class MonotoneCubic {
 public:
  /// x and y ascending, slope >= 0, at least two points of each. Two points with the same x make a kink, with
  /// the slopes of its two sides, or a jump (at x the upper value). Errors: std::invalid_argument for
  /// anything else.
  MonotoneCubic(std::span<const double> x, std::span<const double> y, std::span<const double> slope);

  /// Through points whose slopes are not known: harmonic means of the neighbouring secants (Fritsch and
  /// Butland 1984), one-sided at the ends. x strictly ascending.
  static MonotoneCubic through(std::span<const double> x, std::span<const double> y);

  /// Exactly y at the ends, and beyond them; NaN for NaN.
  double operator()(double x) const;

 private:
  struct Piece {
    double y, slope, quadratic, cubic;  // in powers of x minus the piece's start
  };
  std::size_t cell(double x) const;  // of equal widths between the ends

  std::vector<double> start_;         // [points - 1], then infinities for the search to run into
  std::vector<Piece> piece_;          // [points - 1]
  std::vector<std::uint32_t> guide_;  // [cells + 2] the last piece that starts in an earlier cell
  std::size_t reach_ = 0;             // the first step of the search in a cell, a power of 2
  double last_x_, last_y_, cells_, cells_per_x_;
};

}  // namespace infalign::alignment
