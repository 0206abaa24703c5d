// What an AdamW step multiplies with, the same for the CPU's and the GPU's kernel.
#pragma once

#include <cmath>

#include "kernels/adamw/adamw.h"

namespace infalign::kernels {

/// The step's constants, computed once in float64.
struct AdamWConstants {
  float gradient_scale, forget1, forget2, decay, rate, root_scale, epsilon;

  explicit AdamWConstants(const AdamWStep& hyper)
      : gradient_scale(hyper.gradient_scale),
        forget1(static_cast<float>(1 - static_cast<double>(hyper.beta1))),
        forget2(static_cast<float>(1 - static_cast<double>(hyper.beta2))),
        decay(static_cast<float>(static_cast<double>(hyper.learning_rate) * hyper.weight_decay)),
        rate(static_cast<float>(hyper.learning_rate / correction(hyper.beta1, hyper.step))),
        root_scale(static_cast<float>(1 / std::sqrt(correction(hyper.beta2, hyper.step)))),
        epsilon(hyper.epsilon) {}

 private:
  static double correction(float beta, std::int64_t step) {
    return 1 - std::pow(static_cast<double>(beta), static_cast<double>(step));
  }
};

}  // namespace infalign::kernels
