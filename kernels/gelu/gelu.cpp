// GELU on the CPU. The tanh form is written with the logistic function, (1 + tanh(u / 2)) / 2 = sigmoid(u),
// and so becomes vector code; the exact form, which few models ask for, calls the library's erf.
#include "kernels/gelu/gelu.h"

#include <cmath>

#include "kernels/cuda/operations.h"
#include "kernels/gelu/tanh_form.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 1 << 12;  // values

struct TanhForm {
  [[gnu::always_inline]] static inline GeluPoint at(float x) { return gelu_tanh(x); }
};

struct ErfForm {
  [[gnu::always_inline]] static inline GeluPoint at(float x) {
    constexpr float kRootOfHalf = 0.707106781f;
    constexpr float kDensity = 0.398942280f;  // 1 / sqrt(2 pi)
    const float below = 0.5f * (1.0f + std::erf(x * kRootOfHalf));
    return {x * below, below + x * kDensity * std::exp(-0.5f * x * x)};
  }
};

/// Rows of `width` values, each times its `up` where it is gated.
template <class Form, bool kGated>
[[gnu::always_inline]] static inline void forward_rows(std::int64_t T, std::int64_t width, const float* x,
                                                       float* out) {
  const std::int64_t stride = kGated ? 2 * width : width;
  for (std::int64_t t = 0; t < T; ++t) {
    const float* in = x + t * stride;
    float* y = out + t * width;
#pragma omp simd
    for (std::int64_t f = 0; f < width; ++f) {
      const float value = Form::at(in[f]).value;
      y[f] = kGated ? value * in[width + f] : value;
    }
  }
}

template <class Form, bool kGated>
[[gnu::always_inline]] static inline void backward_rows(std::int64_t T, std::int64_t width, const float* x,
                                                        const float* d_out, float* d_x) {
  const std::int64_t stride = kGated ? 2 * width : width;
  for (std::int64_t t = 0; t < T; ++t) {
    const float* in = x + t * stride;
    const float* dy = d_out + t * width;
    float* dx = d_x + t * stride;
#pragma omp simd
    for (std::int64_t f = 0; f < width; ++f) {
      const GeluPoint gelu = Form::at(in[f]);
      dx[f] = kGated ? dy[f] * in[width + f] * gelu.slope : dy[f] * gelu.slope;
      if (kGated) dx[width + f] = dy[f] * gelu.value;
    }
  }
}

// One function for each form, with and without a gate, for the compiler to vectorise.

INFALIGN_VECTORISE
void tanh_forward(bool gated, std::int64_t T, std::int64_t width, const float* x, float* out) {
  if (gated) {
    forward_rows<TanhForm, true>(T, width, x, out);
  } else {
    forward_rows<TanhForm, false>(T, width, x, out);
  }
}

INFALIGN_VECTORISE
void tanh_backward(bool gated, std::int64_t T, std::int64_t width, const float* x, const float* d_out,
                   float* d_x) {
  if (gated) {
    backward_rows<TanhForm, true>(T, width, x, d_out, d_x);
  } else {
    backward_rows<TanhForm, false>(T, width, x, d_out, d_x);
  }
}

void erf_forward(bool gated, std::int64_t T, std::int64_t width, const float* x, float* out) {
  if (gated) {
    forward_rows<ErfForm, true>(T, width, x, out);
  } else {
    forward_rows<ErfForm, false>(T, width, x, out);
  }
}

void erf_backward(bool gated, std::int64_t T, std::int64_t width, const float* x, const float* d_out,
                  float* d_x) {
  if (gated) {
    backward_rows<ErfForm, true>(T, width, x, d_out, d_x);
  } else {
    backward_rows<ErfForm, false>(T, width, x, d_out, d_x);
  }
}

std::int64_t rows_at_least(std::int64_t width) { return kGrain / width + 1; }

}  // namespace

void gelu_forward(const Stream& on, Gelu kind, std::int64_t n, ConstValues x, Values out) {
  if (on.device() == Device::kCuda) return on_cuda().gelu_forward(on, kind, n, x, out);
  const auto run = kind == Gelu::kTanh ? tanh_forward : erf_forward;
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    run(false, 1, end - begin, x.floats() + begin, out.floats() + begin);
  });
}

void gelu_backward(const Stream& on, Gelu kind, std::int64_t n, ConstValues x, ConstValues d_out,
                   Values d_x) {
  if (on.device() == Device::kCuda) return on_cuda().gelu_backward(on, kind, n, x, d_out, d_x);
  const auto run = kind == Gelu::kTanh ? tanh_backward : erf_backward;
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    run(false, 1, end - begin, x.floats() + begin, d_out.floats() + begin, d_x.floats() + begin);
  });
}

void geglu_forward(const Stream& on, Gelu kind, std::int64_t T, std::int64_t F, ConstValues gate_up,
                   Values out) {
  if (on.device() == Device::kCuda) return on_cuda().geglu_forward(on, kind, T, F, gate_up, out);
  const auto run = kind == Gelu::kTanh ? tanh_forward : erf_forward;
  parallel_for(T, rows_at_least(F), [&](std::int64_t begin, std::int64_t end) {
    run(true, end - begin, F, gate_up.floats() + begin * 2 * F, out.floats() + begin * F);
  });
}

void geglu_backward(const Stream& on, Gelu kind, std::int64_t T, std::int64_t F, ConstValues gate_up,
                    ConstValues d_out, Values d_gate_up) {
  if (on.device() == Device::kCuda)
    return on_cuda().geglu_backward(on, kind, T, F, gate_up, d_out, d_gate_up);
  const auto run = kind == Gelu::kTanh ? tanh_backward : erf_backward;
  parallel_for(T, rows_at_least(F), [&](std::int64_t begin, std::int64_t end) {
    run(true, end - begin, F, gate_up.floats() + begin * 2 * F, d_out.floats() + begin * F,
        d_gate_up.floats() + begin * 2 * F);
  });
}

}  // namespace infalign::kernels
