// The heads' norms on a GPU, a warp a head. Bound: memory. T = 8192, 32 + 8 heads of 128 (and 8 of values
// that are copied) in float32 on an H100 at 3.0 TB/s: 0.13 ms forward (8 bytes an entry), 0.22 ms
// backward (20 of the normed); in bfloat16 half of that.
#include "kernels/qk_norm/qk_norm.h"

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/stored.h"

namespace infalign::kernels::cuda {
namespace {

/// Where the heads lie that a kernel works on.
struct Heads {
  std::int64_t heads, normed, all, head_dim;
  explicit Heads(const AttentionShape& shape)
      : heads(shape.heads),
        normed(shape.heads + shape.kv_heads),
        all(shape.heads + 2 * shape.kv_heads),
        head_dim(shape.head_dim) {}
};

constexpr std::int64_t kHeadsOfBlock = kEachThreads / kWarp;

/// Block (t, group of heads): the warp's own head, or `all` and beyond.
__device__ std::int64_t head_of_warp() {
  return std::int64_t{blockIdx.y} * kHeadsOfBlock + threadIdx.x / kWarp;
}

template <class Stored>
__global__ void __launch_bounds__(kEachThreads)
    qk_norm_forward_head(Heads of, float epsilon, const Stored* in, const float* q_weight,
                         const float* k_weight, Stored* out, float* inverse_rms) {
  const std::int64_t t = blockIdx.x, head = head_of_warp(), D = of.head_dim;
  const unsigned lane = threadIdx.x % kWarp;
  if (head >= of.all) return;  // the whole warp
  const Stored* x = in + (t * of.all + head) * D;
  Stored* y = out + (t * of.all + head) * D;
  if (head >= of.normed) {
    for (std::int64_t d = lane; d < D; d += kWarp) y[d] = x[d];
    return;
  }
  const float* weight = head < of.heads ? q_weight : k_weight;
  float squares = 0;
  for (std::int64_t d = lane; d < D; d += kWarp) squares += widened(x[d]) * widened(x[d]);
  const float inverse = 1.0f / sqrtf(warp_reduce(squares, Sum()) / static_cast<float>(D) + epsilon);
  if (lane == 0) inverse_rms[t * of.normed + head] = inverse;
  for (std::int64_t d = lane; d < D; d += kWarp) put(y[d], widened(x[d]) * inverse * weight[d]);
}

template <class Stored>
__global__ void __launch_bounds__(kEachThreads)
    qk_norm_backward_head(Heads of, const Stored* in, const float* q_weight, const float* k_weight,
                          const float* inverse_rms, Stored* d_qkv) {
  const std::int64_t t = blockIdx.x, head = head_of_warp(), D = of.head_dim;
  const unsigned lane = threadIdx.x % kWarp;
  if (head >= of.normed) return;  // the whole warp
  const Stored* x = in + (t * of.all + head) * D;
  Stored* d = d_qkv + (t * of.all + head) * D;
  const float* weight = head < of.heads ? q_weight : k_weight;
  float along = 0;  // the part of the gradient that points along x changes nothing
  for (std::int64_t i = lane; i < D; i += kWarp) along += widened(d[i]) * widened(x[i]) * weight[i];
  const float inverse = inverse_rms[t * of.normed + head];
  const float shrink = warp_reduce(along, Sum()) * inverse * inverse / static_cast<float>(D);
  for (std::int64_t i = lane; i < D; i += kWarp)
    put(d[i], (widened(d[i]) * weight[i] - widened(x[i]) * shrink) * inverse);
}

/// Entry d of a weight that heads [first, first + count) share: the terms of one row, in the heads' order.
template <class Stored>
struct WeightTerm {
  Heads of;
  std::int64_t first, count;
  const Stored *in, *d_qkv;
  const float* inverse_rms;
  __device__ float operator()(std::int64_t t, std::int64_t d) const {
    float sum = 0;
    for (std::int64_t head = first; head < first + count; ++head) {
      const std::int64_t at = (t * of.all + head) * of.head_dim + d;
      sum += widened(d_qkv[at]) * widened(in[at]) * inverse_rms[t * of.normed + head];
    }
    return sum;
  }
};

}  // namespace

void qk_norm_forward(const Stream& on, const AttentionShape& shape, std::int64_t T, float epsilon,
                     ConstValues in, const float* q_weight, const float* k_weight, Values out,
                     float* inverse_rms) {
  const Heads of(shape);
  with_stored(out.stored(), [&]<class Stored>() {
    launch(on, qk_norm_forward_head<Stored>, dim3(as_grid(T), as_grid(pieces(of.all, kHeadsOfBlock))),
           kEachThreads, 0, of, epsilon, in.as<Stored>(), q_weight, k_weight, out.as<Stored>(), inverse_rms);
  });
}

void qk_norm_backward(const Stream& on, const AttentionShape& shape, std::int64_t T, ConstValues in,
                      const float* q_weight, const float* k_weight, const float* inverse_rms, Values d_qkv,
                      float* d_q_weight, float* d_k_weight) {
  const Heads of(shape);
  // First the weights' gradients, which read the gradients that are overwritten below.
  with_stored(d_qkv.stored(), [&]<class Stored>() {
    const Stored* x = in.as<Stored>();
    Stored* d = d_qkv.as<Stored>();
    const auto add_gradient = [&](std::int64_t first, std::int64_t count, float* d_weight) {
      add_column_sums(on, T, of.head_dim, WeightTerm<Stored>{of, first, count, x, d, inverse_rms}, d_weight);
    };
    if (d_q_weight != nullptr) {
      add_gradient(0, of.heads, d_q_weight);
      add_gradient(of.heads, shape.kv_heads, d_k_weight);
    }
    launch(on, qk_norm_backward_head<Stored>, dim3(as_grid(T), as_grid(pieces(of.normed, kHeadsOfBlock))),
           kEachThreads, 0, of, x, q_weight, k_weight, inverse_rms, d);
  });
}

}  // namespace infalign::kernels::cuda
