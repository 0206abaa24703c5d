// The seam to oneDNN. Its C interface dnnl_sgemm is row-major and takes what we take. A matmul primitive kept
// for each shape would be 3 % faster on products of 128 rows, but slower on sums over many rows, and costs
// 0.1 ms for every new number of rows, which packed batches never tire of.
#include "kernels/matmul/matmul.h"

#include <dnnl.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/cuda/operations.h"

namespace infalign::kernels {

void matmul(const Stream& on, Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n,
            std::int64_t k, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
            float* c, std::int64_t ldc) {
  if (on.device() == Device::kCuda)
    return on_cuda().matmul(on, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
  if (m == 0 || n == 0) return;
  if (k == 0) {  // an empty sum, which the library would leave unwritten
    for (std::int64_t i = 0; beta == 0 && i < m; ++i) std::fill_n(c + i * ldc, n, 0.0f);
    return;
  }
  const char a_letter = transpose_a == Transpose::kYes ? 'T' : 'N';
  const char b_letter = transpose_b == Transpose::kYes ? 'T' : 'N';
  const dnnl_status_t status = dnnl_sgemm(a_letter, b_letter, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
  if (status != dnnl_success)
    throw std::runtime_error(
        "dnnl_sgemm refused the product " + std::string{a_letter} + b_letter + " m=" + std::to_string(m) +
        " n=" + std::to_string(n) + " k=" + std::to_string(k) + " lda=" + std::to_string(lda) +
        " ldb=" + std::to_string(ldb) + " ldc=" + std::to_string(ldc) + ": status " + std::to_string(status));
}

}  // namespace infalign::kernels
