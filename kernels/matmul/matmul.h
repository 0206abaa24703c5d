// Matrix product, the one seam to the vendor's library (oneDNN on the CPU).
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

enum class Transpose : bool { kNo = false, kYes = true };

/// c = op_a(a) op_b(b) + beta * c, row-major float32; beta is 0 (c need not be initialised) or 1.
/// op_a(a) is [m, k], op_b(b) is [k, n], c is [m, n]; lda, ldb, ldc are the distances between stored rows.
/// Errors: std::runtime_error naming the product if the library refuses.
void matmul(const Stream& on, Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n,
            std::int64_t k, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
            float* c, std::int64_t ldc);

}  // namespace infalign::kernels
