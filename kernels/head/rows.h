// Rows of logits and the log-probabilities of one token each: the head without its products.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

/// log_probability[i] = log softmax(inverse_temperature * logits[i])[target[i]]; logits [n, V], the others
/// [n].
void log_probability_rows(const Stream& on, std::int64_t n, std::int64_t V, const float* logits,
                          const std::int32_t* target, float inverse_temperature, float* log_probability);

/// The same, and logits [n, V] become their own gradient: (onehot(target) - softmax) * d_log_probability *
/// inverse_temperature. Of logits that were capped (softcap > 0) it goes on to the logits before that.
void log_probability_rows_backward(const Stream& on, std::int64_t n, std::int64_t V, float softcap,
                                   float* logits, const std::int32_t* target, float inverse_temperature,
                                   const float* d_log_probability, float* log_probability);

}  // namespace infalign::kernels
