// Drawing tokens from rows of logits by inverting the cumulative distribution at given uniform numbers.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

struct SamplingShape {
  std::int64_t rows = 0;
  std::int64_t vocabulary = 0;
  float temperature = 1;  // > 0
  float top_p = 1;        // in (0, 1]; 1: the full softmax. The token that crosses top_p is kept.
  bool greedy = false;    // the largest logit, lowest id at a tie; uniform is not read
};

/// token[i] ~ softmax(logits[i] / temperature), restricted to the top_p nucleus and renormalised, by the
/// uniform number uniform[i] in [0, 1). log_probability[i] is that of the drawn token under softmax(logits[i]
/// / temperature), log_probability_at_1[i] under softmax(logits[i]), both before any restriction. A row's
/// result does not depend on other rows. logits [rows, vocabulary] (may be overwritten), the rest [rows].
void sample_tokens(const Stream& on, const SamplingShape& shape, float* logits, const double* uniform,
                   std::int32_t* token, float* log_probability, float* log_probability_at_1);

}  // namespace infalign::kernels
