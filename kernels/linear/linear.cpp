// The seam to oneDNN's matmul primitives, which are made for one shape each. Packed batches never tire of new
// numbers of rows, so rows are taken in blocks of a few sizes; the last block of a product reaches back over
// rows that the one before it did already, and does them again with the same result.
#include "kernels/linear/linear.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <tuple>

#include "kernels/bias/bias.h"
#include "kernels/cuda/operations.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/linear/products.h"
#include "kernels/matmul/matmul.h"
#include "kernels/parallel.h"

namespace infalign::kernels {
namespace {

using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;

/// The products that primitives are made for, each a [rows, inner] b [inner, columns] = c [rows, columns].
enum class Kind {
  kForwardPlain,          // float32, b = W^T read as it lies
  kForwardPacked,         // float32, b = W^T in the library's layout
  kForwardPlainBfloat16,  // bfloat16, b = W^T read as it lies
  kForwardBfloat16,       // bfloat16, b = W^T in the library's layout
  kInputBfloat16,         // b = W in bfloat16
  kWeightBfloat16,        // a = d_out^T, b = in, c is added to
};

struct Shape {
  Kind kind;
  std::int64_t rows, columns, inner;
  std::int64_t c_stride = 0;                       // between rows of c; 0: they lie side by side
  auto operator<=>(const Shape&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 errs
};

/// A primitive and the descriptions of its operands, whose data is set at each call. The library's scratch
/// memory belongs to the thread that made a primitive, so each thread keeps its own.
struct Product {
  dnnl::matmul run;
  dnnl::memory a, b, c;
};

constexpr std::int64_t kBlock = 512;  // rows

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  static thread_local dnnl::stream here(engine());
  return here;
}

bool is_packed(Kind kind) { return kind == Kind::kForwardPacked || kind == Kind::kForwardBfloat16; }
bool is_plain(Kind kind) { return kind == Kind::kForwardPlain || kind == Kind::kForwardPlainBfloat16; }
bool is_float32(Kind kind) { return kind == Kind::kForwardPlain || kind == Kind::kForwardPacked; }

dnnl::matmul::primitive_desc describe(const Shape& shape, const dnnl::memory::desc& b) {
  const bool transposed = shape.kind == Kind::kWeightBfloat16;
  const dnnl::memory::desc a({shape.rows, shape.inner}, is_float32(shape.kind) ? Type::f32 : Type::bf16,
                             transposed ? Tag::ba : Tag::ab);
  const std::int64_t c_stride = shape.c_stride == 0 ? shape.columns : shape.c_stride;
  const dnnl::memory::desc c({shape.rows, shape.columns}, Type::f32, dnnl::memory::dims{c_stride, 1});
  dnnl::primitive_attr attributes;
  if (shape.kind == Kind::kWeightBfloat16) {
    dnnl::post_ops add;
    add.append_sum(1.0f);
    attributes.set_post_ops(add);
  }
  return {dnnl::matmul::desc(a, b, c), attributes, engine()};
}

[[noreturn]] void refuse(const Shape& shape, const dnnl::error& error) {
  throw std::runtime_error("oneDNN refused the product [" + std::to_string(shape.rows) + ", " +
                           std::to_string(shape.inner) + "] x [" + std::to_string(shape.inner) + ", " +
                           std::to_string(shape.columns) + "]: " + error.what());
}

/// A row of a product has the same bits whatever the other rows are: with AVX-512 always. Without, the
/// library's tiles are of six rows, and what is left over of a product is summed in another order, as is all
/// of a large one; so there rows are taken in sixes, and not too many. (Seen of oneDNN 2.6 on one and two
/// threads; on more it may cut rows between them elsewhere.)
bool takes_any_rows() {
  static const bool wide = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
  return wide;
}
constexpr std::int64_t kTileRows = 6;

/// Without AVX-512 the library has no layout of its own and reads a matrix row by row; rows whose distance is
/// a large power of two would share the few places of the cache that go with it. The least distance of rows
/// of so many columns that does not.
std::int64_t spread(std::int64_t columns) { return columns % 128 == 0 ? columns + 16 : columns; }

/// How b lies in memory, for all threads. The library's own layout is the one it likes for 64 rows.
const dnnl::memory::desc& layout_of_b(Shape shape) {
  static std::mutex lock;
  static std::map<Shape, dnnl::memory::desc> known;
  const std::lock_guard guard(lock);
  shape.rows = 64;
  shape.c_stride = 0;
  const auto found = known.find(shape);
  if (found != known.end()) return found->second;
  const dnnl::memory::dims dims{shape.inner, shape.columns};
  const Type type = is_float32(shape.kind) ? Type::f32 : Type::bf16;
  const auto layout = [&]() -> dnnl::memory::desc {
    if (is_packed(shape.kind) && !takes_any_rows())
      return {dims, type, dnnl::memory::dims{spread(shape.columns), 1}};
    if (is_packed(shape.kind)) return describe(shape, {dims, type, Tag::any}).weights_desc();
    return {dims, type, is_plain(shape.kind) ? Tag::ba : Tag::ab};
  };
  return known.emplace(shape, layout()).first->second;
}

Product& product(const Shape& shape) {
  // A primitive splits its work over as many threads as there were when it was made.
  static thread_local std::map<std::pair<std::int64_t, Shape>, Product> known;
  const std::pair key(thread_count(), shape);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  const auto description = describe(shape, layout_of_b(shape));
  const auto memory = [](const dnnl::memory::desc& d) { return dnnl::memory(d, engine(), nullptr); };
  return known
      .emplace(key, Product{dnnl::matmul(description), memory(description.src_desc()),
                            memory(description.weights_desc()), memory(description.dst_desc())})
      .first->second;
}

void multiply(const Shape& shape, const void* a, const void* b, float* c) try {
  Product& with = product(shape);
  with.a.set_data_handle(const_cast<void*>(a), stream());
  with.b.set_data_handle(const_cast<void*>(b), stream());
  with.c.set_data_handle(c, stream());
  with.run.execute(stream(), {{DNNL_ARG_SRC, with.a}, {DNNL_ARG_WEIGHTS, with.b}, {DNNL_ARG_DST, with.c}});
  stream().wait();
} catch (const dnnl::error& error) {
  refuse(shape, error);
}

std::int64_t largest_block() { return takes_any_rows() ? kBlock : 40 * kTileRows; }

/// Blocks end on multiples of this, so that there are few sizes of them.
std::int64_t step_for(std::int64_t rows) {
  if (!takes_any_rows()) return rows <= 48 ? kTileRows : 4 * kTileRows;
  return rows <= 16 ? 1 : rows <= 64 ? 8 : rows <= 128 ? 16 : 32;
}

/// Calls visit(first, rows) for blocks that cover [0, T); the last may begin before the one before it ends.
/// Without AVX-512, T is kTileRows at least.
template <class Visit>
void for_each_block(std::int64_t T, Visit&& visit) {
  const std::int64_t largest = largest_block();
  std::int64_t first = 0;
  for (; T - first >= largest; first += largest) visit(first, largest);
  const std::int64_t step = step_for(T);
  const std::int64_t whole = (T - first) / step * step;
  if (whole > 0) visit(first, whole);
  first += whole;
  if (first < T) visit(T - step, step);
}

/// Calls forward(rows, in, out) with the T rows and, where they are too few to be computed as others are,
/// with rows of zeros behind them. in [T, k], out [T, n].
template <class Forward>
void with_enough_rows(std::int64_t T, std::int64_t k, const float* in, std::int64_t n, float* out,
                      Forward&& forward) {
  if (takes_any_rows() || T >= kTileRows || T == 0) return forward(T, in, out);
  static thread_local Buffer<float> scratch;
  scratch.reserve(static_cast<std::size_t>(kTileRows * (k + n)));
  float *more_in = scratch.data(), *more_out = more_in + kTileRows * k;
  std::copy_n(in, T * k, more_in);
  std::fill_n(more_in + T * k, (kTileRows - T) * k, 0.0f);
  forward(kTileRows, more_in, more_out);
  std::copy_n(more_out, T * n, out);
}

/// Calls visit(first, columns, begin, distance of rows) for pieces of a matrix [T, n] that is to be
/// multiplied, column by column, by one [T, k]: all of it, or a few columns at a time, which are copied,
/// where the library would read rows at a bad distance. (For a large k it makes a copy itself.)
template <class Visit>
void for_columns(std::int64_t T, std::int64_t n, const float* matrix, std::int64_t k, Visit&& visit) {
  if (takes_any_rows() || spread(n) == n || k > 256) return visit(0, n, matrix, n);
  constexpr std::int64_t kFloats = 1 << 16, kStep = 16;  // a quarter of a megabyte
  const std::int64_t most =
      std::min(n, std::max(kStep, kFloats / std::max<std::int64_t>(T, 1) / kStep * kStep));
  const std::int64_t distance = spread(most);
  static thread_local Buffer<float> scratch;
  scratch.reserve(static_cast<std::size_t>(T * distance));
  for (std::int64_t first = 0; first < n; first += most) {
    const std::int64_t columns = std::min(most, n - first);
    for (std::int64_t t = 0; t < T; ++t)
      std::copy_n(matrix + t * n + first, columns, scratch.data() + t * distance);
    visit(first, columns, scratch.data(), distance);
  }
}

/// Scratch for rows in bfloat16.
Bfloat16* bfloat16_scratch(std::size_t which, std::int64_t size) {
  static thread_local Buffer<Bfloat16> scratch[2];
  scratch[which].reserve(static_cast<std::size_t>(size));
  return scratch[which].data();
}

std::size_t packed_bytes(const Shape& shape) {
  try {
    return layout_of_b(shape).get_size();
  } catch (const dnnl::error& error) {
    refuse(shape, error);
  }
}

/// `weight` is of type `stored`.
void pack(const Shape& shape, Type stored, const void* weight, void* packed) try {
  const dnnl::memory::desc plain({shape.inner, shape.columns}, stored, Tag::ba);
  dnnl::memory from(plain, engine(), const_cast<void*>(weight)), to(layout_of_b(shape), engine(), packed);
  dnnl::reorder(from, to).execute(stream(), from, to);
  stream().wait();
} catch (const dnnl::error& error) {
  refuse(shape, error);
}

/// Rows of a W in bfloat16 that are widened at a time: a megabyte of float32, which stays in the cache.
std::int64_t widened_rows(std::int64_t k) {
  constexpr std::int64_t kFloats = 1 << 18, kStep = 16;
  return std::max(kStep, kFloats / k / kStep * kStep);
}

}  // namespace

bool has_bfloat16() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

void Linear::set(std::int64_t n, std::int64_t k, Precision precision, Use use) {
  n_ = n;
  k_ = k;
  weight_ = nullptr;
  narrow_weight_ = nullptr;
  precision_ = precision;
  use_ = use;
}

void Linear::prepare(const Stream& on, std::int64_t n, std::int64_t k, const float* weight,
                     Precision precision, Use use) {
  set(n, k, precision, use);
  weight_ = weight;
  if (n == 0 || k == 0) return;
  if (on.device() == Device::kCuda) {
    if (precision == Precision::kFloat32) return;  // read as it lies
    bfloat16_.reserve(on, static_cast<std::size_t>(n * k));
    return round_to_bfloat16(on, n * k, weight, bfloat16_.data());
  }
  if (precision == Precision::kBfloat16) {
    const Shape shape{Kind::kForwardBfloat16, 0, n, k};
    packed_bfloat16_.reserve(packed_bytes(shape) / sizeof(Bfloat16));
    pack(shape, Type::f32, weight, packed_bfloat16_.data());
    if (use != Use::kTraining) return;
    bfloat16_.reserve(static_cast<std::size_t>(n * k));
    round_to_bfloat16(on, n * k, weight, bfloat16_.data());
  } else if (use != Use::kScoring) {
    const Shape shape{Kind::kForwardPacked, 0, n, k};
    packed_.reserve(packed_bytes(shape) / sizeof(float));
    pack(shape, Type::f32, weight, packed_.data());
  }
}

void Linear::prepare(const Stream& on, std::int64_t n, std::int64_t k, const Bfloat16* weight,
                     Precision precision, Use use) {
  set(n, k, precision, use);
  narrow_weight_ = weight;
  if (n == 0 || k == 0) return;
  if (on.device() == Device::kCuda) {
    if (precision == Precision::kBfloat16) return;  // read as it lies
    packed_.reserve(on, static_cast<std::size_t>(n * k));
    return widen_bfloat16(on, n * k, weight, packed_.data());
  }
  if (precision == Precision::kFloat32 || use == Use::kScoring) return;
  const Shape shape{Kind::kForwardBfloat16, 0, n, k};
  packed_bfloat16_.reserve(packed_bytes(shape) / sizeof(Bfloat16));
  pack(shape, Type::bf16, weight, packed_bfloat16_.data());
}

PreparedMatrix Linear::prepared() const {
  return {.n = n_,
          .k = k_,
          .weight = weight_ != nullptr ? weight_ : packed_.data(),
          .bfloat16 = narrow_weight_ != nullptr ? narrow_weight_ : bfloat16_.data(),
          .precision = precision_};
}

std::int64_t Linear::bytes(std::int64_t n, std::int64_t k, Precision precision, Use use, Precision stored,
                           Device device) {
  if (device == Device::kCuda) {  // at most a copy in the other element type
    const std::size_t copied = precision == Precision::kBfloat16 ? sizeof(Bfloat16) : sizeof(float);
    return precision == stored ? 0 : n * k * static_cast<std::int64_t>(copied);
  }
  const auto packed = [&](Kind kind) { return static_cast<std::int64_t>(packed_bytes({kind, 0, n, k})); };
  if (stored == Precision::kBfloat16)
    return precision == Precision::kFloat32 || use == Use::kScoring ? 0 : packed(Kind::kForwardBfloat16);
  if (precision == Precision::kFloat32) return use == Use::kScoring ? 0 : packed(Kind::kForwardPacked);
  return packed(Kind::kForwardBfloat16) +
         (use == Use::kTraining ? n * k * static_cast<std::int64_t>(sizeof(Bfloat16)) : 0);
}

template <class Visit>
void Linear::for_each_widened(const Stream& on, Visit&& visit) const {
  static thread_local Buffer<float> scratch;
  const std::int64_t most = std::min(n_, widened_rows(k_));
  scratch.reserve(static_cast<std::size_t>(most * k_));
  for (std::int64_t first = 0; first < n_; first += most) {
    const std::int64_t rows = std::min(most, n_ - first);
    widen_bfloat16(on, rows * k_, narrow_weight_ + first * k_, scratch.data());
    visit(first, rows, scratch.data());
  }
}

void Linear::forward(const Stream& on, std::int64_t T, ConstValues in, Values out, const float* bias) const {
  if (n_ == 0) return;
  if (on.device() == Device::kCuda) return on_cuda().linear_forward(on, prepared(), T, in, bias, out);
  with_enough_rows(
      T, k_, in.floats(), n_, out.floats(),
      [&](std::int64_t rows, const float* from, float* to) { forward_on_cpu(on, rows, from, to); });
  if (bias != nullptr) bias_forward(on, T, n_, bias, out);
}

void Linear::forward_on_cpu(const Stream& on, std::int64_t T, const float* in, float* out) const {
  if (narrow_weight_ != nullptr && precision_ == Precision::kFloat32)
    return for_each_widened(on, [&](std::int64_t column, std::int64_t columns, const float* weight) {
      for_each_block(T, [&](std::int64_t first, std::int64_t rows) {
        multiply({Kind::kForwardPlain, rows, columns, k_, n_}, in + first * k_, weight,
                 out + first * n_ + column);
      });
    });
  for_each_block(T, [&](std::int64_t first, std::int64_t rows) {
    const float* block = in + first * k_;
    float* result = out + first * n_;
    if (precision_ == Precision::kBfloat16) {
      Bfloat16* narrow = bfloat16_scratch(0, rows * k_);
      round_to_bfloat16(on, rows * k_, block, narrow);
      if (narrow_weight_ != nullptr && use_ == Use::kScoring)
        multiply({Kind::kForwardPlainBfloat16, rows, n_, k_}, narrow, narrow_weight_, result);
      else
        multiply({Kind::kForwardBfloat16, rows, n_, k_}, narrow, packed_bfloat16_.data(), result);
    } else if (use_ == Use::kScoring) {
      multiply({Kind::kForwardPlain, rows, n_, k_}, block, weight_, result);
    } else {
      multiply({Kind::kForwardPacked, rows, n_, k_}, block, packed_.data(), result);
    }
  });
}

void Linear::backward_input(const Stream& on, std::int64_t T, ConstValues d_out, Values d_in) const {
  using enum Transpose;
  if (use_ != Use::kTraining) throw std::logic_error("Linear::backward_input: not prepared for training");
  if (on.device() == Device::kCuda) return on_cuda().linear_backward_input(on, prepared(), T, d_out, d_in);
  const float* dy = d_out.floats();
  float* dx = d_in.floats();
  if (precision_ == Precision::kFloat32 && narrow_weight_ != nullptr)
    return for_each_widened(on, [&](std::int64_t column, std::int64_t columns, const float* weight) {
      matmul(on, kNo, kNo, T, k_, columns, dy + column, n_, weight, k_, column == 0 ? 0 : 1, dx, k_);
    });
  if (precision_ == Precision::kFloat32)
    return matmul(on, kNo, kNo, T, k_, n_, dy, n_, weight_, k_, 0, dx, k_);
  const Bfloat16* weight = narrow_weight_ != nullptr ? narrow_weight_ : bfloat16_.data();
  for_each_block(T, [&](std::int64_t first, std::int64_t rows) {
    Bfloat16* narrow = bfloat16_scratch(0, rows * n_);
    round_to_bfloat16(on, rows * n_, dy + first * n_, narrow);
    multiply({Kind::kInputBfloat16, rows, k_, n_}, narrow, weight, dx + first * k_);
  });
}

void Linear::backward_weight(const Stream& on, std::int64_t T, ConstValues d_out, ConstValues in,
                             float* d_weight) const {
  if (on.device() == Device::kCuda)
    return on_cuda().linear_backward_weight(on, prepared(), T, d_out, in, d_weight);
  const float *dy = d_out.floats(), *x = in.floats();
  if (precision_ == Precision::kFloat32)
    return for_columns(T, n_, dy, k_,
                       [&](std::int64_t first, std::int64_t columns, const float* a, std::int64_t distance) {
                         matmul(on, Transpose::kYes, Transpose::kNo, columns, k_, T, a, distance, x, k_, 1,
                                d_weight + first * k_, k_);
                       });
  for (std::int64_t first = 0; first < T; first += kBlock) {
    // The sum runs over rows; rows of zeros beyond the last make their number one of a few.
    const std::int64_t rows = std::min(kBlock, T - first), padded = (rows + 63) / 64 * 64;
    const auto narrow = [&](std::size_t which, const float* from, std::int64_t width) {
      Bfloat16* to = bfloat16_scratch(which, padded * width);
      round_to_bfloat16(on, rows * width, from + first * width, to);
      std::fill_n(to + rows * width, (padded - rows) * width, Bfloat16{0});
      return to;
    };
    const Bfloat16* a = narrow(0, dy, n_);
    const Bfloat16* b = narrow(1, x, k_);
    multiply({Kind::kWeightBfloat16, n_, k_, padded}, a, b, d_weight);
  }
}

}  // namespace infalign::kernels
