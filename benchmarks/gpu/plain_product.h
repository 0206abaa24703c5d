// cuBLASLt as it comes, for comparison: the algorithm that it suggests for the shape at hand, with a
// workspace and any order of sums. kernels/matmul forbids both, so that a row's bits depend on nothing else.
#pragma once

#include <functional>

#include "kernels/matmul/cublas_lt.h"

namespace infalign::benchmarks {

/// A function that queues the product (which has no bias). Its memory has to stay where it is.
/// Errors: std::runtime_error for what the library refuses.
std::function<void()> plain_product(const kernels::Stream& on, const kernels::cuda::Product& product);

}  // namespace infalign::benchmarks
