// The language-model head: log-probabilities of chosen tokens straight from hidden states, in chunks of rows,
// so that logits never stand whole for batch x time x vocabulary. The backward pass computes them again.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

/// Floats of scratch that both passes keep for n rows: the logits of a chunk.
std::int64_t head_scratch(std::int64_t n, std::int64_t V);

/// logits[i] = inverse_temperature * weight hidden[i]; log_probability[i] = log
/// softmax(logits[i])[target[i]]; log_sum_exp[i] = logsumexp(logits[i]), kept for the backward pass. hidden
/// [n, C], weight [V, C], target [n], log_probability and log_sum_exp [n].
void head_forward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                  const float* weight, const std::int32_t* target, float inverse_temperature,
                  float* log_probability, float* log_sum_exp);

/// From d_log_probability [n]: d_hidden [n, C] is overwritten, d_weight [V, C] is added to.
void head_backward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                   const float* weight, const std::int32_t* target, float inverse_temperature,
                   const float* log_sum_exp, const float* d_log_probability, float* d_hidden,
                   float* d_weight);

}  // namespace infalign::kernels
