// Low-rank updates. On the CPU rows are taken in blocks, so that what lies between A and B stays in the
// cache; the product with B is a loop of our own, for no library adds to some columns of a row alone.
// cuBLASLt does, so on a GPU all rows are taken at once and B is read as it lies.
#include "kernels/low_rank/low_rank.h"

#include <algorithm>
#include <utility>

#include "kernels/embedding/embedding.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/matmul/matmul.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kBlock = 512;     // rows between A and B at a time
constexpr std::int64_t kTileRows = 4;    // rows that share what is read of B
constexpr std::int64_t kTileWidth = 64;  // columns whose sums stay in registers
constexpr std::int64_t kRowGrain = 16;

/// out[t, j] += sum over r of low[t, r] b[r, j], for `kRows` rows and columns [begin, end), at most
/// kTileWidth. Each sum is over ascending r whatever the tile.
template <std::int64_t kRows>
[[gnu::always_inline]] static inline void add_tile(std::int64_t begin, std::int64_t end, std::int64_t rank,
                                                   const float* low, std::int64_t low_stride, const float* b,
                                                   std::int64_t b_stride, float* out,
                                                   std::int64_t out_stride) {
  float sums[kRows][kTileWidth];
  const std::int64_t width = end - begin;
  for (std::int64_t t = 0; t < kRows; ++t)
    for (std::int64_t j = 0; j < kTileWidth; ++j) sums[t][j] = 0;
  for (std::int64_t r = 0; r < rank; ++r) {
    const float* row = b + r * b_stride + begin;
    for (std::int64_t t = 0; t < kRows; ++t) {
      const float factor = low[t * low_stride + r];
      if (width == kTileWidth) {
#pragma omp simd
        for (std::int64_t j = 0; j < kTileWidth; ++j) sums[t][j] += factor * row[j];
      } else {
#pragma omp simd
        for (std::int64_t j = 0; j < width; ++j) sums[t][j] += factor * row[j];
      }
    }
  }
  for (std::int64_t t = 0; t < kRows; ++t)
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) out[t * out_stride + begin + j] += sums[t][j];
}

/// The same for T rows and all `n` columns.
INFALIGN_VECTORISE
void add_product(std::int64_t T, std::int64_t n, std::int64_t rank, const float* low, std::int64_t low_stride,
                 const float* b, float* out, std::int64_t out_stride) {
  for (std::int64_t begin = 0; begin < n; begin += kTileWidth) {
    const std::int64_t end = std::min(n, begin + kTileWidth);
    std::int64_t t = 0;
    for (; t + kTileRows <= T; t += kTileRows)
      add_tile<kTileRows>(begin, end, rank, low + t * low_stride, low_stride, b, n, out + t * out_stride,
                          out_stride);
    for (; t < T; ++t)
      add_tile<1>(begin, end, rank, low + t * low_stride, low_stride, b, n, out + t * out_stride, out_stride);
  }
}

INFALIGN_VECTORISE
void scale_values(std::int64_t count, float factor, float* x) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) x[i] *= factor;
}

/// Scratch of a block's rows between A and B. On the CPU a thread keeps it; a GPU's pool does that by itself.
class LowScratch {
 public:
  LowScratch(const Stream& on, std::size_t which, std::int64_t size) {
    static thread_local Buffer<float> of_thread[2];
    Buffer<float>& buffer = on.device() == Device::kCpu ? of_thread[which] : own_;
    buffer.reserve(on, static_cast<std::size_t>(size));
    data_ = buffer.data();
  }
  float* data() const { return data_; }

 private:
  Buffer<float> own_;
  float* data_ = nullptr;
};

/// Rows as float32: themselves, or widened for the length of an operation.
class Widened {
 public:
  Widened(const Stream& on, std::int64_t count, ConstValues rows) {
    if (rows.stored() == Precision::kFloat32) {
      data_ = rows.floats();
    } else {
      wide_.reserve(on, static_cast<std::size_t>(count));
      widen_bfloat16(on, count, rows.as<Bfloat16>(), wide_.data());
      data_ = wide_.data();
    }
  }
  const float* data() const { return data_; }

 private:
  Buffer<float> wide_;
  const float* data_ = nullptr;
};

/// Calls add(rows as float32), and rounds what it has added to where they are stored so.
template <class Add>
void add_to_rows(const Stream& on, std::int64_t count, Values rows, Add&& add) {
  if (rows.stored() == Precision::kFloat32) return add(rows.floats());
  Buffer<float> wide(on, static_cast<std::size_t>(count));
  widen_bfloat16(on, count, rows.as<Bfloat16>(), wide.data());
  add(wide.data());
  round_to_bfloat16(on, count, wide.data(), rows.as<Bfloat16>());
}

/// Calls visit(first, rows) for blocks that cover [0, T).
template <class Visit>
void for_each_block(const Stream& on, std::int64_t T, Visit&& visit) {
  const std::int64_t block = on.device() == Device::kCpu ? kBlock : std::max(T, kBlock);
  for (std::int64_t first = 0; first < T; first += block) visit(first, std::min(block, T - first));
}

void scale(const Stream& on, std::int64_t count, float factor, float* x) {
  if (on.device() == Device::kCuda) return embedding_scale(on, count, factor, x);
  scale_values(count, factor, x);
}

}  // namespace

void LowRank::prepare(const Stream& on, std::int64_t n, std::int64_t k, std::int64_t rank, float scale,
                      std::vector<UpdatedRows> parts, const float* a, const float* b) {
  n_ = n;
  k_ = k;
  rank_ = rank;
  scale_ = scale;
  parts_ = std::move(parts);
  a_ = a;
  b_ = b;
  if (empty()) return;
  product_with_a_.prepare(on, width(), k, a, Precision::kFloat32, Use::kSampling);
  if (on.device() == Device::kCuda) return;
  std::int64_t rows = 0;
  for (const UpdatedRows& part : parts_) rows += part.rows;
  scaled_b_.reserve(static_cast<std::size_t>(rows * rank));
  float* to = scaled_b_.data();
  for (const UpdatedRows& part : parts_) {
    for (std::int64_t j = 0; j < part.rows; ++j)
      for (std::int64_t r = 0; r < rank; ++r) to[r * part.rows + j] = scale * b[j * rank + r];
    to += part.rows * rank;
    b += part.rows * rank;
  }
}

std::int64_t LowRank::bytes(std::int64_t k, std::int64_t rank, std::int64_t parts, std::int64_t rows,
                            Device device) {
  if (device == Device::kCuda) return 0;  // both are read as they lie
  return Linear::bytes(parts * rank, k, Precision::kFloat32, Use::kSampling) +
         rows * rank * static_cast<std::int64_t>(sizeof(float));
}

template <class Visit>
void LowRank::for_each_part(Visit&& visit) const {
  std::int64_t column = 0;
  const float* b = b_;
  for (const UpdatedRows& part : parts_) {
    visit(part, column, b);
    column += rank_;
    b += part.rows * rank_;
  }
}

void LowRank::forward(const Stream& on, std::int64_t T, ConstValues in, Values out) const {
  if (empty()) return;
  add_to_rows(on, T * n_, out, [&](float* y) { add_forward(on, T, in, y); });
}

void LowRank::add_forward(const Stream& on, std::int64_t T, ConstValues in, float* out) const {
  for_each_block(on, T, [&](std::int64_t first, std::int64_t rows) {
    const LowScratch scratch(on, 0, rows * width());
    float* low = scratch.data();
    product_with_a_.forward(on, rows, in + first * k_, low);
    if (on.device() == Device::kCuda) {
      scale(on, rows * width(), scale_, low);
      return for_each_part([&](const UpdatedRows& part, std::int64_t column, const float* b) {
        matmul(on, Transpose::kNo, Transpose::kYes, rows, part.rows, rank_, low + column, width(), b, rank_,
               1, out + first * n_ + part.first, n_);
      });
    }
    parallel_for(rows, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
      const float* b = scaled_b_.data();
      for (std::size_t i = 0; i < parts_.size(); ++i) {
        const UpdatedRows& part = parts_[i];
        add_product(end - begin, part.rows, rank_,
                    low + begin * width() + static_cast<std::int64_t>(i) * rank_, width(), b,
                    out + (first + begin) * n_ + part.first, n_);
        b += part.rows * rank_;
      }
    });
  });
}

void LowRank::backward(const Stream& on, std::int64_t T, ConstValues d_out, ConstValues in, Values d_in,
                       float* d_a, float* d_b) const {
  if (empty()) return;
  const Widened dy(on, T * n_, d_out), x(on, T * k_, in);
  add_to_rows(on, T * k_, d_in, [&](float* dx) { add_backward(on, T, dy.data(), x.data(), dx, d_a, d_b); });
}

void LowRank::add_backward(const Stream& on, std::int64_t T, const float* d_out, const float* in, float* d_in,
                           float* d_a, float* d_b) const {
  using enum Transpose;
  const std::int64_t R = width();
  for_each_block(on, T, [&](std::int64_t first, std::int64_t rows) {
    const float* x = in + first * k_;
    const LowScratch scratch(on, 0, rows * R), d_scratch(on, 1, rows * R);
    float *low = scratch.data(), *d_low = d_scratch.data();
    product_with_a_.forward(on, rows, x, low);
    scale(on, rows * R, scale_, low);
    std::int64_t above = 0;  // rows of the parts before this
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const UpdatedRows& part = parts_[i];
      const float* d = d_out + first * n_ + part.first;
      const std::int64_t column = static_cast<std::int64_t>(i) * rank_;
      matmul(on, kNo, kNo, rows, rank_, part.rows, d, n_, b_ + above * rank_, rank_, 0, d_low + column, R);
      matmul(on, kYes, kNo, part.rows, rank_, rows, d, n_, low + column, R, 1, d_b + above * rank_, rank_);
      above += part.rows;
    }
    scale(on, rows * R, scale_, d_low);
    matmul(on, kYes, kNo, R, k_, rows, d_low, R, x, k_, 1, d_a, k_);
    matmul(on, kNo, kNo, rows, k_, R, d_low, R, a_, k_, 1, d_in + first * k_, k_);
  });
}

void LowRank::add_to(const Stream& on, float* weight) const {
  if (on.device() == Device::kCuda)
    return for_each_part([&](const UpdatedRows& part, std::int64_t column, const float* b) {
      Buffer<float> scaled(on, static_cast<std::size_t>(part.rows * rank_));
      copy(on, part.rows * rank_, b, scaled.data());
      scale(on, part.rows * rank_, scale_, scaled.data());
      matmul(on, Transpose::kNo, Transpose::kNo, part.rows, k_, rank_, scaled.data(), rank_, a_ + column * k_,
             k_, 1, weight + part.first * k_, k_);
    });
  const float* b = scaled_b_.data();
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const UpdatedRows& part = parts_[i];
    matmul(on, Transpose::kYes, Transpose::kNo, part.rows, k_, rank_, b, part.rows,
           a_ + static_cast<std::int64_t>(i) * rank_ * k_, k_, 1, weight + part.first * k_, k_);
    b += part.rows * rank_;
  }
}

}  // namespace infalign::kernels
