// The language-model head: log-probabilities of chosen tokens straight from hidden states, in chunks of rows,
// so that logits never stand whole for batch x time x vocabulary. The losses of alignment and fine-tuning are
// linear in the log-probabilities with coefficients known beforehand, so a chunk's gradient is made of its
// logits while they are there.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/linear/linear.h"

namespace infalign::kernels {

/// Floats of scratch that both passes keep for n rows: the logits of a chunk.
std::int64_t head_scratch(std::int64_t n, std::int64_t V);

/// logits[i] = inverse_temperature * weight hidden[i]; log_probability[i] = log
/// softmax(logits[i])[target[i]]. hidden [n, C], weight [V, C], target and log_probability [n]. With softcap
/// > 0, x = weight hidden[i] is replaced by softcap * tanh(x / softcap) first (Gemma 2).
void head_forward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                  const Linear& weight, const std::int32_t* target, float inverse_temperature,
                  float* log_probability, float softcap = 0);

/// Both passes, for d_log_probability [n] known beforehand: log_probability as above, d_hidden [n, C] is
/// overwritten, d_weight [V, C] is added to, or null where the head is frozen. `weight` is prepared for
/// training.
void head_forward_backward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V,
                           const float* hidden, const Linear& weight, const std::int32_t* target,
                           float inverse_temperature, const float* d_log_probability, float* log_probability,
                           float* d_hidden, float* d_weight, float softcap = 0);

}  // namespace infalign::kernels
