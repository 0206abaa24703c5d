// A linear layer's products on a GPU: cuBLASLt's, in float32 as the matrix lies, or in bfloat16 with the rows
// rounded first. The bounds are those of matmul.cu.
#include "kernels/linear/products.h"

#include "kernels/bias/bias.h"
#include "kernels/cuda/scratch.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/matmul/cublas_lt.h"

namespace infalign::kernels::cuda {
namespace {

/// Algorithms are chosen for so many rows, whatever their number: so a row's bits do not depend on it.
constexpr std::int64_t kNominalRows = 1024;

/// Rows in the element type of a product: as they are, or rounded into scratch memory.
class Rows {
 public:
  Rows(const Stream& on, Precision precision, std::int64_t count, const float* values)
      : rounded_(on, precision == Precision::kBfloat16 ? count : 0), data_(values) {
    if (precision != Precision::kBfloat16) return;
    kernels::round_to_bfloat16(on, count, values, rounded_.data());
    data_ = rounded_.data();
  }
  const void* data() const { return data_; }

 private:
  Scratch<Bfloat16> rounded_;
  const void* data_;
};

Element element_of(const PreparedMatrix& matrix) {
  return matrix.precision == Precision::kBfloat16 ? Element::kBfloat16 : Element::kFloat32;
}

const void* entries_of(const PreparedMatrix& matrix) {
  if (matrix.precision == Precision::kBfloat16) return matrix.bfloat16;
  return matrix.weight;
}

/// The library reads a bias in vectors of 16 bytes; a parameter may lie anywhere.
bool may_be_fused(const float* bias) { return reinterpret_cast<std::uintptr_t>(bias) % 16 == 0; }

}  // namespace

void linear_forward(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, const float* in,
                    const float* bias, float* out) {
  const Rows rows(on, matrix.precision, T * matrix.k, in);
  const bool is_fused = bias != nullptr && matrix.k > 0 && may_be_fused(bias);  // an empty sum is no product
  multiply(on,
           {element_of(matrix), Transpose::kNo, Transpose::kYes, T, matrix.n, matrix.k, rows.data(), matrix.k,
            entries_of(matrix), matrix.k, 0, out, matrix.n, is_fused ? bias : nullptr},
           {.m = kNominalRows});
  if (bias != nullptr && !is_fused) bias_forward(on, T, matrix.n, bias, out);
}

void linear_backward_input(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, const float* d_out,
                           float* d_in) {
  const Rows rows(on, matrix.precision, T * matrix.n, d_out);
  multiply(on,
           {element_of(matrix), Transpose::kNo, Transpose::kNo, T, matrix.k, matrix.n, rows.data(), matrix.n,
            entries_of(matrix), matrix.k, 0, d_in, matrix.k},
           {.m = kNominalRows});
}

void linear_backward_weight(const Stream& on, const PreparedMatrix& matrix, std::int64_t T,
                            const float* d_out, const float* in, float* d_weight) {
  const Rows left(on, matrix.precision, T * matrix.n, d_out), right(on, matrix.precision, T * matrix.k, in);
  multiply(on,
           {element_of(matrix), Transpose::kYes, Transpose::kNo, matrix.n, matrix.k, T, left.data(), matrix.n,
            right.data(), matrix.k, 1, d_weight, matrix.k},
           {.k = kNominalRows});
}

}  // namespace infalign::kernels::cuda
