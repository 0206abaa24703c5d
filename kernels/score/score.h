// The score head of a reward model: one number for each chosen row of hidden states.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

/// score[i] = weight . hidden[i], summed in float64; hidden [n, C], weight [C], score [n].
void score_forward(const Stream& on, std::int64_t n, std::int64_t C, const float* hidden, const float* weight,
                   float* score);

/// d_hidden [n, C] is overwritten with d_score[i] * weight; d_weight [C] += sum over i of d_score[i] *
/// hidden[i], in ascending i.
void score_backward(const Stream& on, std::int64_t n, std::int64_t C, const float* hidden,
                    const float* weight, const float* d_score, float* d_hidden, float* d_weight);

}  // namespace infalign::kernels
