// Rotary position embedding (Su et al. 2021) in the half-rotation layout of Hugging Face checkpoints:
// entry d pairs with d + rotary_dim / 2.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

enum class Rotation { kForward, kBackward };

/// Rotates, in place, each head of each row by the angle position * inverse_frequency[d]; kBackward rotates
/// the other way (the gradient). x holds `heads` heads of head_dim values, row t at x + t * stride; positions
/// [T]; inverse_frequency [rotary_dim / 2]. Angles are computed in float64, or looked up in a table computed
/// so. Only the first rotary_dim values of each head are rotated, among themselves; 0 says all.
void rotary(const Stream& on, Rotation rotation, std::int64_t T, std::int64_t heads, std::int64_t head_dim,
            const std::int32_t* positions, const float* inverse_frequency, Values x, std::int64_t stride,
            std::int64_t rotary_dim = 0);

}  // namespace infalign::kernels
