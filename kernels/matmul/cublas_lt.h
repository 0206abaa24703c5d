// The seam to cuBLASLt: which product, in which elements, with which fixed algorithm.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/matmul/matmul.h"
#include "kernels/precision.h"
#include "kernels/values.h"

namespace infalign::kernels::cuda {

/// A product as kernels::matmul describes it, of factors in one element type; sums are float32 always, and c
/// is in float32, or in bfloat16 where the factors are.
struct Product {
  Precision element;
  Transpose transpose_a, transpose_b;
  std::int64_t m, n, k;
  const void* a;
  std::int64_t lda;
  const void* b;
  std::int64_t ldb;
  float beta;
  Values c;
  std::int64_t ldc;
  const float* bias = nullptr;  // [n], at a multiple of 16 bytes; added to each row as it is stored
};

/// What an algorithm is chosen for in the place of the product's own m and k: products that differ in these
/// alone run the same algorithm. 0: their own.
struct Nominal {
  std::int64_t m = 0, k = 0;
};

/// Errors: std::runtime_error naming the product if the library has no algorithm for it or fails.
void multiply(const Stream& on, const Product& product, Nominal nominal = {});

}  // namespace infalign::kernels::cuda
