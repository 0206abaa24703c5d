// SwiGLU (Shazeer 2020): the gated activation of Llama's feed-forward block.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// out[t, f] = silu(gate_up[t, f]) * gate_up[t, F + f]; gate_up [T, 2F], out [T, F].
void swiglu_forward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, Values out);

/// d_gate_up [T, 2F] is overwritten.
void swiglu_backward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, ConstValues d_out,
                     Values d_gate_up);

}  // namespace infalign::kernels
