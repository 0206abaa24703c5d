// Low-rank updates of a weight matrix (LoRA; Hu et al. 2021): out += scale B (A in) beside a product with the
// matrix itself, and the gradients of A, B and in, without the update ever being formed. Factors and sums are
// float32 whatever the matrix is in: they are small. Rows that are stored in bfloat16 are widened, and
// rounded again, around it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/linear/linear.h"

namespace infalign::kernels {

/// Rows [first, first + rows) of a matrix, which have an update of their own: B [rows, rank] A [rank, k].
struct UpdatedRows {
  std::int64_t first = 0, rows = 0;
};

/// The updates of a matrix [n, k], prepared for products. Matrices that were put side by side, such as those
/// of queries, keys and values, have one for each, and their A's are multiplied with at once.
class LowRank {
 public:
  /// Prepares the updates, or prepares them again when they have changed. `a` [parts * rank, k] and `b` [rows
  /// of all parts, rank] hold those of the parts one below the other; both have to stay where they are as
  /// long as this is used.
  void prepare(const Stream& on, std::int64_t n, std::int64_t k, std::int64_t rank, float scale,
               std::vector<UpdatedRows> parts, const float* a, const float* b);

  /// Whether there is nothing to add.
  bool empty() const { return parts_.empty(); }

  /// out [T, n] += scale B (A in) for in [T, k]. A row's result does not depend on other rows.
  void forward(const Stream& on, std::int64_t T, ConstValues in, Values out) const;

  /// From d_out [T, n]: adds to d_in [T, k], d_a (as a) and d_b (as b).
  void backward(const Stream& on, std::int64_t T, ConstValues d_out, ConstValues in, Values d_in, float* d_a,
                float* d_b) const;

  /// weight [n, k] += scale B A.
  void add_to(const Stream& on, float* weight) const;

  /// Memory that preparing takes beside a and b: of `parts` updates of `rows` rows together.
  static std::int64_t bytes(std::int64_t k, std::int64_t rank, std::int64_t parts, std::int64_t rows,
                            Device device = Device::kCpu);

 private:
  void add_forward(const Stream& on, std::int64_t T, ConstValues in, float* out) const;
  void add_backward(const Stream& on, std::int64_t T, const float* d_out, const float* in, float* d_in,
                    float* d_a, float* d_b) const;
  /// Calls visit(part, its first column among the A's rows, its B) for each.
  template <class Visit>
  void for_each_part(Visit&& visit) const;
  std::int64_t width() const { return static_cast<std::int64_t>(parts_.size()) * rank_; }

  std::int64_t n_ = 0, k_ = 0, rank_ = 0;
  float scale_ = 0;
  std::vector<UpdatedRows> parts_;
  const float* a_ = nullptr;
  const float* b_ = nullptr;
  Linear product_with_a_;
  Buffer<float> scaled_b_;  // scale B^T, [rank, rows] for each part; on the CPU
};

}  // namespace infalign::kernels
