// The language-model head as a sequence of other operations, on any device. A chunk of rows is small enough
// that its logits are still in the second-level cache when they are exponentiated; the chunk's size is a
// constant, so it does not change any result.
#include "kernels/head/head.h"

#include <algorithm>

#include "kernels/head/rows.h"
#include "kernels/softcap/softcap.h"

namespace infalign::kernels {
namespace {

/// Logits of a chunk: half a megabyte, but of rows enough that their gradient is worth the passes over the
/// weights.
constexpr std::int64_t kChunkFloats = 1 << 17;
constexpr std::int64_t kFewestRows = 128, kMostRows = 512;

std::int64_t chunk_rows(std::int64_t V) {
  return std::clamp(kChunkFloats / V / 32 * 32, kFewestRows, kMostRows);
}

/// Room for the logits of a chunk. On the CPU a thread keeps it; a GPU's pool does that by itself.
class Scratch {
 public:
  Scratch(const Stream& on, std::int64_t n, std::int64_t V) {
    static thread_local Buffer<float> of_thread;
    Buffer<float>& buffer = on.device() == Device::kCpu ? of_thread : own_;
    buffer.reserve(on, static_cast<std::size_t>(head_scratch(n, V)));
    logits_ = buffer.data();
  }
  float* logits() const { return logits_; }

 private:
  Buffer<float> own_;
  float* logits_ = nullptr;
};

/// Makes the logits [rows, V] of a chunk of hidden states at a time and calls visit(first row, rows, logits),
/// which may overwrite them.
template <class Visit>
void for_each_chunk(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                    const Linear& weight, float softcap, Visit&& visit) {
  const std::int64_t chunk = chunk_rows(V);
  const Scratch scratch(on, n, V);
  float* logits = scratch.logits();  // [chunk, V]
  for (std::int64_t first = 0; first < n; first += chunk) {
    const std::int64_t rows = std::min(chunk, n - first);
    weight.forward(on, rows, hidden + first * C, logits);
    if (softcap > 0) softcap_forward(on, rows * V, softcap, logits);
    visit(first, rows, logits);
  }
}

}  // namespace

std::int64_t head_scratch(std::int64_t n, std::int64_t V) { return std::min(n, chunk_rows(V)) * V; }

void head_forward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                  const Linear& weight, const std::int32_t* target, float inverse_temperature,
                  float* log_probability, float softcap) {
  for_each_chunk(on, n, C, V, hidden, weight, softcap,
                 [&](std::int64_t first, std::int64_t rows, const float* logits) {
                   log_probability_rows(on, rows, V, logits, target + first, inverse_temperature,
                                        log_probability + first);
                 });
}

void head_forward_backward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V,
                           const float* hidden, const Linear& weight, const std::int32_t* target,
                           float inverse_temperature, const float* d_log_probability, float* log_probability,
                           float* d_hidden, float* d_weight, float softcap) {
  for_each_chunk(
      on, n, C, V, hidden, weight, softcap, [&](std::int64_t first, std::int64_t rows, float* logits) {
        log_probability_rows_backward(on, rows, V, softcap, logits, target + first, inverse_temperature,
                                      d_log_probability + first, log_probability + first);
        weight.backward_input(on, rows, logits, d_hidden + first * C);
        if (d_weight != nullptr) weight.backward_weight(on, rows, logits, hidden + first * C, d_weight);
      });
}

}  // namespace infalign::kernels
