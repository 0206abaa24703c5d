// Gated activations, whatever the gate's form: rows of gate_up [T, 2F] hold the gate and what it lets
// through. Form::at(x) gives the form's value and slope.
#pragma once

#include "kernels/cuda/each.h"
#include "kernels/cuda/stored.h"

namespace infalign::kernels::cuda {

template <class Form, class Stored>
struct GatedForward {
  std::int64_t F;
  const Stored* gate_up;
  Stored* out;
  __device__ void operator()(std::int64_t t, std::int64_t f) const {
    const Stored* gate = gate_up + t * 2 * F + f;
    put(out[t * F + f], Form::at(widened(gate[0])).value * widened(gate[F]));
  }
};

template <class Form, class Stored>
struct GatedBackward {
  std::int64_t F;
  const Stored *gate_up, *d_out;
  Stored* d_gate_up;
  __device__ void operator()(std::int64_t t, std::int64_t f) const {
    const Stored* gate = gate_up + t * 2 * F + f;
    Stored* d_gate = d_gate_up + t * 2 * F + f;
    const auto form = Form::at(widened(gate[0]));
    const float d = widened(d_out[t * F + f]);
    put(d_gate[0], d * widened(gate[F]) * form.slope);
    put(d_gate[F], d * form.value);
  }
};

/// out [T, F] = form(gate) up
template <class Form>
void gated_forward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, Values out) {
  with_stored(out.stored(), [&]<class Stored>() {
    for_each_entry(on, T, F, GatedForward<Form, Stored>{F, gate_up.as<Stored>(), out.as<Stored>()});
  });
}

/// d_gate_up [T, 2F] from d_out [T, F]
template <class Form>
void gated_backward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, ConstValues d_out,
                    Values d_gate_up) {
  with_stored(d_out.stored(), [&]<class Stored>() {
    for_each_entry(
        on, T, F,
        GatedBackward<Form, Stored>{F, gate_up.as<Stored>(), d_out.as<Stored>(), d_gate_up.as<Stored>()});
  });
}

}  // namespace infalign::kernels::cuda
