// Embedding on the CPU. The gradient is split over columns, not rows, so that each sum keeps its order on any
// number of threads.
#include "kernels/embedding/embedding.h"

#include <cstring>

#include "kernels/cuda/operations.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kRowGrain = 256, kColumnGrain = 64;

INFALIGN_VECTORISE
void add_columns(std::int64_t T, std::int64_t C, std::int64_t begin, std::int64_t end,
                 const std::int32_t* tokens, const float* d_out, float* d_table) {
  for (std::int64_t t = 0; t < T; ++t) {
    const float* from = d_out + t * C;
    float* to = d_table + tokens[t] * C;
#pragma omp simd
    for (std::int64_t c = begin; c < end; ++c) to[c] += from[c];
  }
}

/// out[t] = table[tokens[t]], or added to what is there.
template <bool kAdd>
[[gnu::always_inline]] static inline void widen_rows(std::int64_t T, std::int64_t C,
                                                     const std::int32_t* tokens, const Bfloat16* table,
                                                     float* out) {
  for (std::int64_t t = 0; t < T; ++t) {
    const Bfloat16* from = table + tokens[t] * C;
    float* to = out + t * C;
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) to[c] = (kAdd ? to[c] : 0.0f) + from_bfloat16(from[c]);
  }
}

INFALIGN_VECTORISE
void copy_widened(std::int64_t T, std::int64_t C, const std::int32_t* tokens, const Bfloat16* table,
                  float* out) {
  widen_rows<false>(T, C, tokens, table, out);
}

INFALIGN_VECTORISE
void add_widened(std::int64_t T, std::int64_t C, const std::int32_t* tokens, const Bfloat16* table,
                 float* out) {
  widen_rows<true>(T, C, tokens, table, out);
}

INFALIGN_VECTORISE
void add_rows(std::int64_t T, std::int64_t C, const std::int32_t* positions, const float* table, float* out) {
  for (std::int64_t t = 0; t < T; ++t) {
    const float* from = table + positions[t] * C;
    float* to = out + t * C;
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) to[c] += from[c];
  }
}

INFALIGN_VECTORISE
void scale_values(std::int64_t n, float factor, float* x) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace

void embedding_forward(const Stream& on, std::int64_t T, std::int64_t C, const std::int32_t* tokens,
                       ConstValues table, float* out) {
  if (on.device() == Device::kCuda) return on_cuda().embedding_forward(on, T, C, tokens, table, out);
  parallel_for(T, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    if (table.stored() == Precision::kBfloat16)
      return copy_widened(end - begin, C, tokens + begin, table.as<Bfloat16>(), out + begin * C);
    for (std::int64_t t = begin; t < end; ++t)
      std::memcpy(out + t * C, table.floats() + tokens[t] * C, static_cast<std::size_t>(C) * sizeof(float));
  });
}

void embedding_add(const Stream& on, std::int64_t T, std::int64_t C, const std::int32_t* positions,
                   ConstValues table, float* out) {
  if (on.device() == Device::kCuda) return on_cuda().embedding_add(on, T, C, positions, table, out);
  parallel_for(T, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    if (table.stored() == Precision::kBfloat16)
      add_widened(end - begin, C, positions + begin, table.as<Bfloat16>(), out + begin * C);
    else
      add_rows(end - begin, C, positions + begin, table.floats(), out + begin * C);
  });
}

void embedding_scale(const Stream& on, std::int64_t n, float factor, float* x) {
  if (on.device() == Device::kCuda) return on_cuda().embedding_scale(on, n, factor, x);
  constexpr std::int64_t kGrain = 1 << 14;
  parallel_for(n, kGrain,
               [&](std::int64_t begin, std::int64_t end) { scale_values(end - begin, factor, x + begin); });
}

void embedding_backward(const Stream& on, std::int64_t T, std::int64_t C, const std::int32_t* tokens,
                        const float* d_out, float* d_table) {
  if (on.device() == Device::kCuda) return on_cuda().embedding_backward(on, T, C, tokens, d_out, d_table);
  parallel_for(C, kColumnGrain, [&](std::int64_t begin, std::int64_t end) {
    add_columns(T, C, begin, end, tokens, d_out, d_table);
  });
}

}  // namespace infalign::kernels
