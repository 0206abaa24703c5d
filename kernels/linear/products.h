// What a GPU does with a prepared matrix; on the CPU Linear does it itself, with the library's own layouts.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/precision.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// W [n, k], row-major, and the same in bfloat16 where products are to be in it.
struct PreparedMatrix {
  std::int64_t n = 0, k = 0;
  const float* weight = nullptr;
  const std::uint16_t* bfloat16 = nullptr;
  Precision precision = Precision::kFloat32;
};

/// Rows may be stored in either type, whatever the factors are in: they are rounded or widened as needed.

/// out [T, n] = in [T, k] W^T, and `bias` [n] added to each row unless it is null. A row's bits do not depend
/// on other rows, nor on how many there are.
void linear_forward(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, ConstValues in,
                    const float* bias, Values out);

/// d_in [T, k] = d_out [T, n] W.
void linear_backward_input(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, ConstValues d_out,
                           Values d_in);

/// d_weight [n, k] += d_out^T in, of d_out [T, n] and in [T, k].
void linear_backward_weight(const Stream& on, const PreparedMatrix& matrix, std::int64_t T, ConstValues d_out,
                            ConstValues in, float* d_weight);

}  // namespace infalign::kernels
