// GELU (Hendrycks and Gimpel 2016) and its gated form GeGLU (Shazeer 2020): the activations of GPT-2's and
// Gemma's feed-forward blocks.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

enum class Gelu {
  kTanh,  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): "gelu_new", "gelu_pytorch_tanh"
  kErf,   // x Phi(x): "gelu"
};

/// out[i] = gelu(x[i]); x, out [n].
void gelu_forward(const Stream& on, Gelu kind, std::int64_t n, ConstValues x, Values out);

/// d_x [n] is overwritten.
void gelu_backward(const Stream& on, Gelu kind, std::int64_t n, ConstValues x, ConstValues d_out, Values d_x);

/// out[t, f] = gelu(gate_up[t, f]) * gate_up[t, F + f]; gate_up [T, 2F], out [T, F].
void geglu_forward(const Stream& on, Gelu kind, std::int64_t T, std::int64_t F, ConstValues gate_up,
                   Values out);

/// d_gate_up [T, 2F] is overwritten.
void geglu_backward(const Stream& on, Gelu kind, std::int64_t T, std::int64_t F, ConstValues gate_up,
                    ConstValues d_out, Values d_gate_up);

}  // namespace infalign::kernels
