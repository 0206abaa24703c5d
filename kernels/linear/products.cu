// A linear layer's products on a GPU: cuBLASLt's, in float32 as the matrix lies, or in bfloat16, to which
// rows in float32 are rounded first. The bounds are those of matmul.cu.
#include "kernels/linear/products.h"

#include "kernels/bias/bias.h"
#include "kernels/cuda/scratch.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/matmul/cublas_lt.h"

namespace infalign::kernels::cuda {
namespace {

/// Algorithms are chosen for so many rows, whatever their number: so a row's bits do not depend on it.
constexpr std::int64_t kNominalRows = 1024;

/// Rows in the element type of a product: as they are, or rounded or widened into scratch memory.
class Rows {
 public:
  Rows(const Stream& on, Precision precision, std::int64_t count, ConstValues values)
      : other_(on, values.stored() == precision ? 0 : count * size_of(precision)), data_(values.data()) {
    if (values.stored() == precision) return;
    data_ = other_.data();
    if (precision == Precision::kBfloat16)
      kernels::round_to_bfloat16(on, count, values.floats(), reinterpret_cast<Bfloat16*>(other_.data()));
    else
      kernels::widen_bfloat16(on, count, values.as<Bfloat16>(), reinterpret_cast<float*>(other_.data()));
  }
  const void* data() const { return data_; }

 private:
  Scratch<std::byte> other_;
  const void* data_;
};

const void* entries_of(const PreparedMatrix& matrix) {
  if (matrix.precision == Precision::kBfloat16) return matrix.bfloat16;
  return matrix.weight;
}

/// The library reads a bias in vectors of 16 bytes, where a parameter may lie anywhere, and in the type of
/// the result.
bool may_be_fused(const float* bias, Values out) {
  return reinterpret_cast<std::uintptr_t>(bias) % 16 == 0 && out.stored() == Precision::kFloat32;
}

}  // namespace

void linear_forward(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, ConstValues in,
                    const float* bias, Values out) {
  const Rows rows(on, matrix.precision, T * matrix.k, in);
  const bool is_fused =
      bias != nullptr && matrix.k > 0 && may_be_fused(bias, out);  // an empty sum is no product
  multiply(on,
           {matrix.precision, Transpose::kNo, Transpose::kYes, T, matrix.n, matrix.k, rows.data(), matrix.k,
            entries_of(matrix), matrix.k, 0, out, matrix.n, is_fused ? bias : nullptr},
           {.m = kNominalRows});
  if (bias != nullptr && !is_fused) bias_forward(on, T, matrix.n, bias, out);
}

void linear_backward_input(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, ConstValues d_out,
                           Values d_in) {
  const Rows rows(on, matrix.precision, T * matrix.n, d_out);
  multiply(on,
           {matrix.precision, Transpose::kNo, Transpose::kNo, T, matrix.k, matrix.n, rows.data(), matrix.n,
            entries_of(matrix), matrix.k, 0, d_in, matrix.k},
           {.m = kNominalRows});
}

void linear_backward_weight(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, ConstValues d_out,
                            ConstValues in, float* d_weight) {
  const Rows left(on, matrix.precision, T * matrix.n, d_out), right(on, matrix.precision, T * matrix.k, in);
  multiply(on,
           {matrix.precision, Transpose::kYes, Transpose::kNo, matrix.n, matrix.k, T, left.data(), matrix.n,
            right.data(), matrix.k, 1, d_weight, matrix.k},
           {.k = kNominalRows});
}

}  // namespace infalign::kernels::cuda
