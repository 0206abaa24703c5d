// Biases on a GPU. Bound: memory. T = 8192 rows of 6144 in float32 on an H100 at 3.0 TB/s: 0.13 ms forward (8
// bytes an entry), 0.07 ms backward (4); in bfloat16 half of that.
#include "kernels/bias/bias.h"

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/stored.h"

namespace infalign::kernels::cuda {
namespace {

template <class Stored>
struct AddBias {
  std::int64_t n;
  const float* bias;
  Stored* x;
  __device__ void operator()(std::int64_t t, std::int64_t i) const {
    put(x[t * n + i], widened(x[t * n + i]) + bias[i]);
  }
};

template <class Stored>
struct Entry {
  std::int64_t n;
  const Stored* d_x;
  __device__ float operator()(std::int64_t t, std::int64_t i) const { return widened(d_x[t * n + i]); }
};

}  // namespace

void bias_forward(const Stream& on, std::int64_t T, std::int64_t n, const float* bias, Values x) {
  with_stored(x.stored(), [&]<class Stored>() {
    for_each_entry(on, T, n, AddBias<Stored>{n, bias, x.as<Stored>()});
  });
}

void bias_backward(const Stream& on, std::int64_t T, std::int64_t n, ConstValues d_x, float* d_bias) {
  with_stored(d_x.stored(), [&]<class Stored>() {
    add_column_sums(on, T, n, Entry<Stored>{n, d_x.as<Stored>()}, d_bias);
  });
}

}  // namespace infalign::kernels::cuda
