#include "gpu/rows.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <span>
#include <utility>

#include "gpu/plain_product.h"
#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/bias/bias.h"
#include "kernels/calibration/calibration.h"
#include "kernels/decode_attention/decode_attention.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gelu/gelu.h"
#include "kernels/head/rows.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/linear/linear.h"
#include "kernels/matmul/matmul.h"
#include "kernels/qk_norm/qk_norm.h"
#include "kernels/reproducible_sum/reproducible_sum.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/sampling/sampling.h"
#include "kernels/score/score.h"
#include "kernels/softcap/softcap.h"
#include "kernels/swiglu/swiglu.h"

namespace infalign::benchmarks {
namespace {

using namespace kernels;

/// Memory of the device, or what else an operation is given, as long as it is measured.
class Given {
 public:
  explicit Given(std::shared_ptr<void> what, Precision stored = Precision::kFloat32)
      : what_(std::move(what)), stored_(stored) {}
  template <class T>
  T* as() const {
    return static_cast<T*>(what_.get());
  }
  template <class T>
  operator T*() const {  // NOLINT(google-explicit-constructor): the operation says of what type it is
    return as<T>();
  }
  operator Values() const {  // NOLINT(google-explicit-constructor)
    return stored_ == Precision::kBfloat16 ? Values(as<Bfloat16>()) : Values(as<float>());
  }
  operator ConstValues() const { return Values(*this); }  // NOLINT(google-explicit-constructor)

 private:
  std::shared_ptr<void> what_;
  Precision stored_;
};
using Fill = std::function<Given(const Stream&)>;
using Queue = std::function<void(const Stream&, const std::vector<Given>&)>;

/// n values of make(engine), of which a million are drawn and then repeated.
template <class T, class Make>
Fill filled(std::int64_t n, Make make) {
  return [=](const Stream& on) {
    static std::mt19937_64 engine(1);
    Make draw = make;  // from its beginning
    std::vector<T> drawn(static_cast<std::size_t>(std::min<std::int64_t>(n, 1 << 20)));
    for (T& value : drawn) value = static_cast<T>(draw(engine));
    const auto buffer = std::make_shared<Buffer<T>>(on, static_cast<std::size_t>(n));
    upload(on, std::span<const T>(drawn), buffer->data());
    for (std::int64_t done = std::ssize(drawn); done < n; done *= 2)
      copy(on, std::min(done, n - done), buffer->data(), buffer->data() + done);
    return Given(std::shared_ptr<void>(buffer, buffer->data()),
                 std::is_same_v<T, Bfloat16> ? Precision::kBfloat16 : Precision::kFloat32);
  };
}
Fill normal(std::int64_t n, float deviation = 1) {
  return filled<float>(n, std::normal_distribution<float>(0, deviation));
}
Fill narrow(std::int64_t n) {
  return filled<Bfloat16>(n, [draw = std::normal_distribution<float>()](auto& engine) mutable {
    return to_bfloat16(draw(engine));
  });
}
/// Activations that are stored so, and what a table calls it.
Fill normal_in(Precision stored, std::int64_t n) {
  return stored == Precision::kBfloat16 ? narrow(n) : normal(n);
}
std::string name_of(Precision precision) {
  return precision == Precision::kBfloat16 ? "bfloat16" : "float32";
}

template <class T>
Fill equal(std::int64_t n, T value) {
  return filled<T>(n, [=](auto&) { return value; });
}
/// Integers in [0, below).
Fill below(std::int64_t n, std::int64_t below) {
  return filled<std::int32_t>(
      n, std::uniform_int_distribution<std::int32_t>(0, static_cast<std::int32_t>(below - 1)));
}
/// 0, 1, 2 ...
Fill ascending(std::int64_t n) {
  return filled<std::int32_t>(n, [at = 0](auto&) mutable { return at++; });
}
/// Fixed-point sums of numbers of the size of 1.
Fill fixed(std::int64_t n) {
  return filled<std::int64_t>(n, [](auto& engine) { return static_cast<std::int64_t>(engine()) >> 18; });
}

std::string by(std::int64_t a, std::int64_t b) { return std::to_string(a) + " x " + std::to_string(b); }

Row row(std::string operation, std::string shape, Cost cost, const std::vector<Fill>& fills,
        const Queue& queue, std::string paper = "") {
  const auto prepare = [=](const Stream& on) -> std::function<void()> {
    std::vector<Given> given;
    for (const Fill& fill : fills) given.push_back(fill(on));
    return [=] { queue(on, given); };
  };
  return {std::move(operation), std::move(shape), std::move(cost), prepare, std::move(paper), ""};
}

using On = const Stream&;
using In = const std::vector<Given>&;

void add_optimizer(const Sizes& s, std::vector<Row>& all) {
  const std::int64_t n = s.parameters;
  const double each = static_cast<double>(n);
  const std::string shape = std::to_string(n);
  const AdamWStep hyper{.learning_rate = 1e-4f, .weight_decay = 0.1f, .step = 10};
  all.push_back(row(
      "adamw", shape, {28 * each}, {normal(n), normal(n), normal(n), equal(n, 1.0f)},
      [=](On on, In x) { adamw(on, hyper, n, x[0], x[1], x[2], x[3]); }, "AdamW, 10^9 parameters"));
  all.push_back(row(
      "add_fixed_point", shape, {24 * each}, {normal(n), fixed(n), equal<std::uint32_t>(1, 0)},
      [=](On on, In x) { add_fixed_point(on, n, 64, x[0], x[1], x[2]); }, "fixed-point sum, 10^9 values"));
  all.push_back(row("add_sums", shape, {24 * each}, {fixed(n), fixed(n)},
                    [=](On on, In x) { add_sums(on, n, x[0], x[1]); }));
  all.push_back(row("from_fixed_point", shape, {12 * each}, {fixed(n), normal(n)},
                    [=](On on, In x) { from_fixed_point(on, n, x[0], x[1]); }));
  all.push_back(row("sum_of_squares", shape, {4 * each},
                    {normal(n), equal((n + kSumBlock - 1) / kSumBlock, 0.0)},
                    [=](On on, In x) { sum_of_squares(on, n, x[0], x[1]); }));
}

AttentionShape attention_shape(const Sizes& s) {
  return {.heads = s.heads,
          .kv_heads = s.kv_heads,
          .head_dim = s.head_dim,
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_dim)))};
}

void add_attention(const Sizes& s, Precision stored, std::vector<Row>& all) {
  const std::int64_t T = s.tokens, attended = s.heads * s.head_dim, width = s.kv_heads * s.head_dim;
  const std::string heads =
      ", " + std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " of " + std::to_string(s.head_dim);
  const std::int64_t pairs = T * T / 2;
  const double scores = static_cast<double>(pairs * attended), size = static_cast<double>(size_of(stored));
  const AttentionShape shape = attention_shape(s);
  const std::vector<Segment> segments{{0, static_cast<std::int32_t>(T), 0, 0}};
  const std::string dtype = name_of(stored);
  const double entries = static_cast<double>(T * (shape.row() + attended));
  const Fill qkv = normal_in(stored, T * shape.row()), out = normal_in(stored, T * attended),
             sums = normal(T * s.heads);
  all.push_back(row(
      "attention_forward", std::to_string(T) + heads, {size * entries, 4 * scores, dtype}, {qkv, out, sums},
      [=](On on, In x) { attention_forward(on, shape, segments, x[0], x[1], x[2]); },
      "attention forward, one segment, " + dtype));
  all.push_back(row(
      "attention_backward", std::to_string(T) + heads, {2 * size * entries, 14 * scores, dtype},
      {qkv, out, sums, out, qkv},
      [=](On on, In x) { attention_backward(on, shape, segments, T, x[0], x[1], x[2], x[3], x[4]); },
      "attention backward, one segment, " + dtype));
  const std::int64_t n = s.decoding, cached = s.cached;
  const auto places = [](std::int64_t count, std::int64_t value) {
    return equal(count, static_cast<std::int32_t>(value));
  };
  const double positions = static_cast<double>(n * cached);
  const Fill cache = normal_in(stored, n * width * cached), row_of_each = normal_in(stored, n * shape.row());
  // The cores that multiply are the plain ones.
  all.push_back(row(
      "decode_attention", by(n, cached) + heads + ", cached in " + dtype,
      {2 * size * positions * static_cast<double>(width), 4 * positions * static_cast<double>(attended)},
      {cache, cache, row_of_each, ascending(n), places(n, 0), places(n, cached),
       normal_in(stored, n * attended)},
      [=](On on, In x) {
        const CacheView view{x[0], x[1], n, cached};
        decode_attention(on, shape, n, x[2], view, x[3], x[4], view, x[3], x[5], x[6]);
      },
      "decode attention, 256 rows of 2048, " + dtype));
  all.push_back(row("cache_store", by(n, 2 * width), {4 * size * static_cast<double>(n * width), 0, dtype},
                    {cache, cache, row_of_each, ascending(n), places(n, cached / 2)}, [=](On on, In x) {
                      cache_store(on, shape, n, x[2], x[3], x[4], {x[0], x[1], n, cached});
                    }));
}

void add_activations(const Sizes& s, Precision stored, std::vector<Row>& all) {
  const std::int64_t T = s.tokens, F = s.feed_forward, n = T * F;
  const double each = static_cast<double>(n) * static_cast<double>(size_of(stored));
  constexpr Gelu kTanh = Gelu::kTanh;
  const auto add = [&](const char* operation, double values, std::int64_t wide, const Queue& queue,
                       const std::string& paper = "") {
    all.push_back(row(operation, by(T, F), {values * each, 0, name_of(stored)},
                      {normal_in(stored, wide * n), normal_in(stored, n), normal_in(stored, wide * n)}, queue,
                      paper));
  };
  add(
      "swiglu_forward", 3, 2, [=](On on, In x) { swiglu_forward(on, T, F, x[0], x[1]); },
      "SwiGLU forward, " + name_of(stored));
  add(
      "swiglu_backward", 5, 2, [=](On on, In x) { swiglu_backward(on, T, F, x[0], x[1], x[2]); },
      "SwiGLU backward, " + name_of(stored));
  add("geglu_forward", 3, 2, [=](On on, In x) { geglu_forward(on, kTanh, T, F, x[0], x[1]); });
  add("geglu_backward", 5, 2, [=](On on, In x) { geglu_backward(on, kTanh, T, F, x[0], x[1], x[2]); });
  add("gelu_forward", 2, 1, [=](On on, In x) { gelu_forward(on, kTanh, n, x[0], x[1]); });
  add("gelu_backward", 3, 1, [=](On on, In x) { gelu_backward(on, kTanh, n, x[0], x[1], x[2]); });
}

void add_embedding(const Sizes& s, std::vector<Row>& all) {
  const std::int64_t T = s.tokens, C = s.hidden, V = s.vocabulary;
  const double each = static_cast<double>(T * C);
  const auto add = [&](const char* operation, Cost cost, const std::vector<Fill>& fills, const Queue& queue,
                       const char* paper = "") {
    all.push_back(row(operation, by(T, C), std::move(cost), fills, queue, paper));
  };
  add(
      "embedding_forward", {8 * each}, {below(T, V), normal(V * C), normal(T * C)},
      [=](On on, In x) { embedding_forward(on, T, C, x[0], x[1], x[2]); }, "embedding forward");
  add("embedding_forward", {6 * each, 0, "bfloat16"}, {below(T, V), narrow(V * C), normal(T * C)},
      [=](On on, In x) { embedding_forward(on, T, C, x[0], x[1], x[2]); });
  add("embedding_add", {12 * each}, {ascending(T), normal(T * C), normal(T * C)},
      [=](On on, In x) { embedding_add(on, T, C, x[0], x[1], x[2]); });
  add("embedding_scale", {8 * each}, {normal(T * C)},
      [=](On on, In x) { embedding_scale(on, T * C, 1, x[0]); });
  add(
      "embedding_backward", {12 * each}, {below(T, V), normal(T * C), normal(V * C)},
      [=](On on, In x) { embedding_backward(on, T, C, x[0], x[1], x[2]); }, "embedding backward");
}

void add_norms(const Sizes& s, Precision stored, std::vector<Row>& all) {
  const std::int64_t T = s.tokens, C = s.hidden, D = s.head_dim, heads = s.heads + s.kv_heads;
  const AttentionShape shape = attention_shape(s);
  const std::int64_t wide = shape.row();
  const double size = static_cast<double>(size_of(stored));
  const std::string dtype = name_of(stored);
  const auto add = [&](const char* operation, double bytes, const Queue& queue,
                       const std::string& paper = "") {
    all.push_back(
        row(operation, by(T, C), {bytes * static_cast<double>(T * C), 0, dtype},
            {normal_in(stored, T * C), normal(T * C), normal(C), normal(C), normal(T), normal(T * C)}, queue,
            paper));
  };
  add(
      "add_rms_norm_forward", 12 + size,
      [=](On on, In x) { add_rms_norm_forward(on, T, C, 1e-5f, x[1], x[5], x[2], x[0], x[4]); },
      "RMSNorm forward, with the residual, " + dtype);
  add(
      "rms_norm_backward", 16 + 2 * size,
      [=](On on, In x) { rms_norm_backward(on, T, C, x[0], x[1], x[2], x[4], x[5], x[3]); },
      "RMSNorm backward, " + dtype);
  add("add_layer_norm_forward", 12 + size,
      [=](On on, In x) { add_layer_norm_forward(on, T, C, 1e-5f, x[1], x[5], x[2], x[3], x[0], x[4]); });
  add("layer_norm_backward", 16 + 3 * size,
      [=](On on, In x) { layer_norm_backward(on, T, C, x[0], x[1], x[2], x[4], x[5], x[2], x[3]); });
  const double all_heads = static_cast<double>(T * wide), normed = static_cast<double>(T * heads * D);
  const Fill rows = normal_in(stored, T * wide);
  all.push_back(row("qk_norm_forward", by(T, wide), {2 * size * all_heads, 0, dtype},
                    {rows, normal(D), rows, normal(T * heads)}, [=](On on, In x) {
                      qk_norm_forward(on, shape, T, 1e-5f, x[0], x[1], x[1], x[2], x[3]);
                    }));
  all.push_back(row("qk_norm_backward", by(T, heads * D), {5 * size * normed, 0, dtype},
                    {rows, normal(D), normal(T * heads), rows, normal(D), normal(D)}, [=](On on, In x) {
                      qk_norm_backward(on, shape, T, x[0], x[1], x[1], x[2], x[3], x[4], x[5]);
                    }));
  const auto frequency = [D, d = 0](auto&) mutable {
    return std::pow(1e4, -2.0 * d++ / static_cast<double>(D));
  };
  all.push_back(row(
      "rotary", by(T, heads * D), {2 * size * normed, 0, dtype},
      {ascending(T), filled<float>(D / 2, frequency), rows},
      [=](On on, In x) { rotary(on, Rotation::kForward, T, heads, D, x[0], x[1], x[2], wide); },
      "rotary, " + dtype));
  all.push_back(row("bias_forward", by(T, wide), {2 * size * all_heads, 0, dtype}, {normal(wide), rows},
                    [=](On on, In x) { bias_forward(on, T, wide, x[0], x[1]); }));
  all.push_back(row("bias_backward", by(T, wide), {size * all_heads, 0, dtype}, {rows, normal(wide)},
                    [=](On on, In x) { bias_backward(on, T, wide, x[0], x[1]); }));
}

/// cuBLASLt's own product beside a row of ours, or for a peak: its factors are in the element type, as ours.
Row plain(Row row, Precision element, Transpose a, Transpose b, std::int64_t m, std::int64_t n,
          std::int64_t k, float beta) {
  row.peer = "cuBLASLt, plain";
  row.paper = "";
  row.prepare = [=](const Stream& on) -> std::function<void()> {
    const auto factor = [=](std::int64_t size) { return normal_in(element, size)(on); };
    const Precision result = beta == 0 ? element : Precision::kFloat32;  // what is added to is a gradient
    const std::vector<Given> x{factor(m * k), factor(k * n), normal_in(result, m * n)(on)};
    const auto queue = plain_product(on, {element, a, b, m, n, k, x[0], a == Transpose::kYes ? m : k, x[1],
                                          b == Transpose::kYes ? k : n, beta, x[2], n});
    return [=, kept = x] { queue(); };
  };
  return row;
}

/// The products of T rows with W [n, k] in both passes, and the library's beside each.
void add_linear(std::int64_t T, std::int64_t n, std::int64_t k, Precision precision, const std::string& paper,
                std::vector<Row>& all) {
  const double size = static_cast<double>(size_of(precision)), in = static_cast<double>(T * k),
               out = static_cast<double>(T * n), weights = static_cast<double>(n * k);
  constexpr Transpose kNo = Transpose::kNo, kYes = Transpose::kYes;
  const Fill matrix = [=](On on) {
    const auto both = std::make_shared<std::pair<Given, Linear>>(normal(n * k)(on), Linear());
    both->second.prepare(on, n, k, both->first.as<float>(), precision, Use::kTraining);
    return Given(std::shared_ptr<void>(both, &both->second));
  };
  const auto add = [&](const char* operation, double bytes, const Queue& queue,
                       const std::string& on_paper = "") {
    all.push_back(row(operation, by(T, k) + " to " + std::to_string(n),
                      {bytes, 2 * in * static_cast<double>(n), name_of(precision)},
                      {matrix, normal_in(precision, T * k), normal_in(precision, T * n), normal(n * k)},
                      queue, on_paper));
  };
  add(
      "linear_forward", size * (in + weights + out),
      [=](On on, In x) { x[0].as<Linear>()->forward(on, T, x[1], x[2]); }, paper);
  all.push_back(plain(all.back(), precision, kNo, kYes, T, n, k, 0));
  add("linear_backward_input", size * (out + weights + in),
      [=](On on, In x) { x[0].as<Linear>()->backward_input(on, T, x[2], x[1]); });
  all.push_back(plain(all.back(), precision, kNo, kNo, T, k, n, 0));
  add("linear_backward_weight", size * (in + out) + 8 * weights,
      [=](On on, In x) { x[0].as<Linear>()->backward_weight(on, T, x[2], x[1], x[3]); });
  all.push_back(plain(all.back(), precision, kYes, kNo, n, k, T, 1));
}

void add_products(const Sizes& s, std::vector<Row>& all) {
  const std::int64_t T = s.tokens, C = s.hidden, F = s.feed_forward,
                     wide = (s.heads + 2 * s.kv_heads) * s.head_dim;
  const double each = static_cast<double>(T * C);
  add_linear(T, wide, C, Precision::kFloat32, "", all);
  add_linear(T, 2 * F, C, Precision::kFloat32, "", all);
  add_linear(T, wide, C, Precision::kBfloat16, "product for q, k, v in bfloat16", all);
  add_linear(T, 2 * F, C, Precision::kBfloat16, "product of gate and up in bfloat16", all);
  constexpr Transpose kNo = Transpose::kNo;
  all.push_back(row("matmul", by(T, C) + " by " + by(C, C),
                    {8 * each + static_cast<double>(4 * C * C), 2 * each * static_cast<double>(C)},
                    {normal(T * C), normal(C * C), normal(T * C)},
                    [=](On on, In x) { matmul(on, kNo, kNo, T, C, C, x[0], C, x[1], C, 0, x[2], C); }));
  all.push_back(plain(all.back(), Precision::kFloat32, kNo, kNo, T, C, C, 0));
  all.push_back(row("round_to_bfloat16", by(T, C), {6 * each}, {normal(T * C), narrow(T * C)},
                    [=](On on, In x) { round_to_bfloat16(on, T * C, x[0], x[1]); }));
  all.push_back(row("widen_bfloat16", by(T, C), {6 * each}, {narrow(T * C), normal(T * C)},
                    [=](On on, In x) { widen_bfloat16(on, T * C, x[0], x[1]); }));
}

void add_head(const Sizes& s, std::vector<Row>& all) {
  const std::int64_t n = s.chunk, V = s.vocabulary, sampled = s.sampled;
  const double each = static_cast<double>(n * V);
  const auto add = [&](const char* operation, double bytes, const Queue& queue, const char* paper = "") {
    all.push_back(row(operation, by(n, V), {bytes * each},
                      {normal(n * V), below(n, V), normal(n), normal(n), normal(n * V)}, queue, paper));
  };
  add("log_probability_rows", 8, [=](On on, In x) { log_probability_rows(on, n, V, x[0], x[1], 1, x[3]); });
  add(
      "log_probability_rows_backward", 16,
      [=](On on, In x) { log_probability_rows_backward(on, n, V, 0, x[0], x[1], 1, x[2], x[3]); },
      "head's rows with their gradient, 128");
  add("softcap_forward", 8, [=](On on, In x) { softcap_forward(on, n * V, 30, x[0]); });
  add("softcap_backward", 12, [=](On on, In x) { softcap_backward(on, n * V, 30, x[0], x[4]); });
  for (const float top_p : {1.0f, 0.9f}) {  // a nucleus is found by 30 more readings
    const bool is_whole = top_p == 1;
    const SamplingShape shape{.rows = sampled, .vocabulary = V, .top_p = top_p};
    all.push_back(row(
        "sample_tokens", by(sampled, V) + (is_whole ? "" : ", top-p 0.9"),
        {(is_whole ? 8 : 8 + 30 * 4) * static_cast<double>(sampled * V)},
        {normal(sampled * V, 2), filled<double>(sampled, std::uniform_real_distribution<double>()),
         equal<std::int32_t>(sampled, 0), normal(sampled), normal(sampled)},
        [=](On on, In x) { sample_tokens(on, shape, x[0], x[1], x[2], x[3], x[4]); },
        is_whole ? "sampling, 512 rows" : ""));
  }
}

void add_rewards(const Sizes& s, std::vector<Row>& all) {
  const std::int64_t rows = s.sampled, C = s.hidden, n = s.rewards, K = s.rollouts, prompts = (n + K - 1) / K;
  const double each = static_cast<double>(rows * C), rewards = static_cast<double>(n);
  all.push_back(row("score_forward", by(rows, C), {4 * each}, {normal(rows * C), normal(C), normal(rows)},
                    [=](On on, In x) { score_forward(on, rows, C, x[0], x[1], x[2]); }));
  all.push_back(row("score_backward", by(rows, C), {8 * each},
                    {normal(rows * C), normal(C), normal(rows), normal(rows * C), normal(C)},
                    [=](On on, In x) { score_backward(on, rows, C, x[0], x[1], x[2], x[3], x[4]); }));
  const auto sorted = [K, at = std::int64_t{0}](auto&) mutable {
    return 4 * static_cast<double>(at++ % K) / static_cast<double>(K) - 2;
  };
  all.push_back(row("calibration_lookup", std::to_string(n) + " among " + std::to_string(K),
                    {20 * rewards},  // reward, prompt and result, and the table once
                    {filled<float>(prompts * K, sorted), below(n, prompts), normal(n), equal(n, 0.0)},
                    [=](On on, In x) { calibration_lookup(on, n, K, x[0], x[1], x[2], x[3]); }));
  all.push_back(row("sketch_counts", std::to_string(n), {4 * rewards},
                    {normal(n), equal<std::uint64_t>(kSketchBuckets, 0)},
                    [=](On on, In x) { sketch_counts(on, n, x[0], x[1]); }));
}

}  // namespace

Sizes small_sizes() { return {40, 64, 4, 2, 16, 96, 300, 4, 4, 3, 48, 1000, 8, 5000, 4096, 64}; }

std::vector<Row> rows(const Sizes& sizes) {
  std::vector<Row> all;
  for (const auto add : {add_embedding, add_products, add_head, add_rewards, add_optimizer}) add(sizes, all);
  for (const Precision stored : {Precision::kFloat32, Precision::kBfloat16})
    for (const auto add : {add_norms, add_attention, add_activations}) add(sizes, stored, all);
  return all;
}

std::vector<Row> peaks(const Sizes& sizes) {
  const std::int64_t n = sizes.copied, side = sizes.square;
  const double entries = static_cast<double>(side * side),
               operations = 2 * entries * static_cast<double>(side);
  const auto product = [&](Precision element, double bytes, const char* dtype) {
    Row square = plain({"cuBLASLt, plain",
                        by(side, side) + " by " + by(side, side),
                        {bytes * entries, operations, dtype},
                        {},
                        "",
                        ""},
                       element, Transpose::kNo, Transpose::kYes, side, side, side, 0);
    square.peer = "";
    return square;
  };
  return {row("copy", std::to_string(n), {8 * static_cast<double>(n)}, {normal(n), normal(n)},
              [=](On on, In x) { copy(on, n, x[0].as<float>(), x[1].as<float>()); }),
          product(Precision::kFloat32, 12, "float32"), product(Precision::kBfloat16, 6, "bfloat16")};
}

}  // namespace infalign::benchmarks
