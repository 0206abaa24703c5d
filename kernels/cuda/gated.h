// Gated activations, whatever the gate's form: rows of gate_up [T, 2F] hold the gate and what it lets
// through. Form::at(x) gives the form's value and slope.
#pragma once

#include "kernels/cuda/each.h"

namespace infalign::kernels::cuda {

/// out [T, F] = form(gate) up
template <class Form>
struct GatedForward {
  std::int64_t F;
  const float* gate_up;
  float* out;
  __device__ void operator()(std::int64_t t, std::int64_t f) const {
    const float* gate = gate_up + t * 2 * F + f;
    out[t * F + f] = Form::at(gate[0]).value * gate[F];
  }
};

/// d_gate_up [T, 2F] from d_out [T, F]
template <class Form>
struct GatedBackward {
  std::int64_t F;
  const float *gate_up, *d_out;
  float* d_gate_up;
  __device__ void operator()(std::int64_t t, std::int64_t f) const {
    const float* gate = gate_up + t * 2 * F + f;
    float* d_gate = d_gate_up + t * 2 * F + f;
    const auto form = Form::at(gate[0]);
    const float d = d_out[t * F + f];
    d_gate[0] = d * gate[F] * form.slope;
    d_gate[F] = d * form.value;
  }
};

}  // namespace infalign::kernels::cuda
