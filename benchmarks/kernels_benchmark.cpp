// How fast each kernel is on the shapes of small models, in the units that limit it: floating-point
// operations for products and attention, bytes moved for the rest. `of_peak` is the share of the rate of a
// large square product measured in the same run; `of_products` is the time relative to that of a layer's
// matrix products over the same rows. OMP_NUM_THREADS=1 gives the numbers of one core, which is what one rank
// usually has.
#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/decode_attention/decode_attention.h"
#include "kernels/embedding/embedding.h"
#include "kernels/head/head.h"
#include "kernels/matmul/matmul.h"
#include "kernels/reproducible_sum/reproducible_sum.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/sampling/sampling.h"
#include "kernels/swiglu/swiglu.h"

namespace {

using namespace infalign::kernels;

/// The sizes of a decoder layer and its head.
struct Model {
  std::string name;
  AttentionShape attention;
  std::int64_t C, F, V;
};

const std::vector<Model>& models() {
  static const std::vector<Model> all{
      {"C64", {8, 4, 8, 0.3535534f}, 64, 172, 512},
      {"C96", {6, 3, 16, 0.25f}, 96, 256, 1024},
      {"C128", {4, 4, 32, 0.1767767f}, 128, 384, 1024},
  };
  return all;
}

Buffer<float> random_buffer(std::int64_t n, float deviation = 1) {
  static std::mt19937 engine(1);
  std::normal_distribution<float> distribution(0, deviation);
  Buffer<float> buffer(static_cast<std::size_t>(n));
  for (float& value : buffer.span()) value = distribution(engine);
  return buffer;
}

/// Processor time of this thread, which takes part in all work. Unlike the wall clock it does not count what
/// other programs take from the processor meanwhile; it is also what Google Benchmark's rates are made of.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Seconds of one call, the least of several batches.
double least_seconds(const std::function<void()>& body) {
  double least = 1e30;
  for (int batch = 0; batch < 7; ++batch) {
    const double start = thread_seconds();
    int calls = 0;
    double elapsed = 0;
    do {
      body();
      ++calls;
      elapsed = thread_seconds() - start;
    } while (elapsed < 0.02);
    least = std::min(least, elapsed / calls);
  }
  return least;
}

void product(std::int64_t m, std::int64_t n, std::int64_t k, const Buffer<float>& a, const Buffer<float>& b,
             Buffer<float>& c, Transpose transpose_b = Transpose::kYes) {
  const bool turned = transpose_b == Transpose::kYes;
  matmul({}, Transpose::kNo, transpose_b, m, n, k, a.data(), k, b.data(), turned ? k : n, 0, c.data(), n);
}

/// Floating-point operations per second of a large product: the baseline of `of_peak`.
double peak() {
  static const double rate = [] {
    constexpr std::int64_t kSize = 1024;
    const Buffer<float> a = random_buffer(kSize * kSize), b = random_buffer(kSize * kSize);
    Buffer<float> c(kSize * kSize);
    return 2.0 * kSize * kSize * kSize / least_seconds([&] { product(kSize, kSize, kSize, a, b, c); });
  }();
  return rate;
}

/// The four products of a layer over `rows` rows: q-k-v, attention output, gate and up, down.
class LayerProducts {
 public:
  LayerProducts(const Model& model, std::int64_t rows) : rows_(rows) {
    const std::int64_t attended = model.attention.heads * model.attention.head_dim;
    add(model.attention.row(), model.C);
    add(model.C, attended);
    add(2 * model.F, model.C);
    add(model.C, model.F);
  }

  void operator()() {
    for (Product& p : products_) product(rows_, p.n, p.k, p.a, p.b, p.c);
  }
  double flops() const {
    double sum = 0;
    for (const Product& p : products_) sum += 2.0 * static_cast<double>(rows_ * p.n * p.k);
    return sum;
  }
  double seconds() {
    return least_seconds([this] { (*this)(); });
  }

 private:
  struct Product {
    std::int64_t n, k;
    Buffer<float> a, b, c;
  };
  void add(std::int64_t n, std::int64_t k) {
    products_.push_back({n, k, random_buffer(rows_ * k), random_buffer(n * k), random_buffer(rows_ * n)});
  }
  std::int64_t rows_;
  std::vector<Product> products_;
};

/// What a benchmark's rate is counted in.
struct Work {
  double flops = 0;
  double bytes = 0;
};

double floats(std::int64_t n) { return 4.0 * static_cast<double>(n); }

void measure(benchmark::State& state, const Work& work, double products_seconds,
             const std::function<void()>& body) {
  using benchmark::Counter;
  constexpr auto kPerSecond = Counter::kIsIterationInvariantRate;
  body();
  for (auto _ : state) body();
  if (work.flops > 0) {
    state.counters["GFLOP/s"] = Counter(work.flops * 1e-9, kPerSecond);
    state.counters["of_peak"] = Counter(work.flops / peak(), kPerSecond);
  }
  if (work.bytes > 0) state.counters["GB/s"] = Counter(work.bytes * 1e-9, kPerSecond);
  if (products_seconds > 0)
    state.counters["of_products"] =
        Counter(products_seconds, static_cast<Counter::Flags>(kPerSecond | Counter::kInvert));
}

/// Four prompts of 40 tokens with 32 responses of 16 tokens each: 2,208 rows.
struct Pack {
  std::vector<Segment> segments;
  std::vector<std::int32_t> positions;
  std::int64_t rows = 0;
  double pairs = 0;  // (query, key) pairs

  Pack() {
    for (int prompt = 0; prompt < 4; ++prompt) {
      const auto begin = static_cast<std::int32_t>(rows);
      add({begin, 40, 0, 0});
      for (int sample = 0; sample < 32; ++sample) add({static_cast<std::int32_t>(rows), 16, begin, 40});
    }
  }
  void add(const Segment& segment) {
    segments.push_back(segment);
    for (std::int32_t t = 0; t < segment.length; ++t) positions.push_back(segment.prefix_length + t);
    rows += segment.length;
    pairs += segment.length * (segment.prefix_length + 0.5 * (segment.length + 1));
  }
};

std::vector<std::int32_t> random_tokens(std::int64_t n, std::int64_t V) {
  std::mt19937 engine(2);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
  for (auto& token : tokens) token = static_cast<std::int32_t>(engine() % static_cast<std::uint32_t>(V));
  return tokens;
}

std::vector<float> inverse_frequencies(std::int64_t head_dim) {
  std::vector<float> inverse;
  for (std::int64_t d = 0; d < head_dim / 2; ++d)
    inverse.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(d) / static_cast<float>(head_dim)));
  return inverse;
}

void add_benchmark(const std::string& name, std::function<void(benchmark::State&)> body) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(body))->Unit(benchmark::kMicrosecond);
}

void add_products() {
  add_benchmark("product/1024x1024x1024", [](benchmark::State& state) {
    const Buffer<float> a = random_buffer(1 << 20), b = random_buffer(1 << 20);
    Buffer<float> c(1 << 20);
    measure(state, {.flops = 2.0 * (1 << 30)}, 0, [&] { product(1024, 1024, 1024, a, b, c); });
  });
  struct Shape {
    std::int64_t m, n, k;
  };
  for (const Shape& shape : {Shape{64, 64, 64},
                             {128, 128, 64},
                             {128, 512, 64},
                             {128, 384, 128},
                             {128, 768, 128},
                             {128, 128, 384},
                             {128, 1024, 128},
                             {2208, 128, 64},
                             {2208, 384, 128},
                             {2208, 128, 384}})
    for (const Transpose turned : {Transpose::kYes, Transpose::kNo}) {
      const auto [m, n, k] = shape;
      add_benchmark("product/" + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k) +
                        (turned == Transpose::kYes ? "/transposed" : ""),
                    [=](benchmark::State& state) {
                      const Buffer<float> a = random_buffer(m * k), b = random_buffer(n * k);
                      Buffer<float> c(static_cast<std::size_t>(m * n));
                      measure(state, {.flops = 2.0 * static_cast<double>(m * n * k)}, 0,
                              [&] { product(m, n, k, a, b, c, turned); });
                    });
    }
  for (const Model& model : models())  // the gradient of a weight: a sum over all rows
    add_benchmark("product/weight_gradient/" + model.name, [&model](benchmark::State& state) {
      const std::int64_t T = Pack().rows, n = model.attention.row();
      const Buffer<float> d_out = random_buffer(T * n), in = random_buffer(T * model.C);
      Buffer<float> d_weight(static_cast<std::size_t>(n * model.C));
      measure(state, {.flops = 2.0 * static_cast<double>(T * n * model.C)}, 0, [&] {
        matmul({}, Transpose::kYes, Transpose::kNo, n, model.C, T, d_out.data(), n, in.data(), model.C, 1,
               d_weight.data(), model.C);
      });
    });
}

void add_training(const Model& model) {
  const std::int64_t C = model.C, F = model.F, V = model.V;
  const AttentionShape& shape = model.attention;
  const std::int64_t T = Pack().rows, row = shape.row(), attended = shape.heads * shape.head_dim;
  const auto products_seconds = [&model, T] { return LayerProducts(model, T).seconds(); };
  const auto add = [&](const std::string& name, std::function<void(benchmark::State&)> body) {
    add_benchmark("train/" + model.name + "/" + name, std::move(body));
  };

  add("layer_products", [=, &model](benchmark::State& state) {
    LayerProducts products(model, T);
    measure(state, {.flops = products.flops()}, 0, [&] { products(); });
  });
  add("attention_forward", [=, &shape](benchmark::State& state) {
    const Pack pack;
    const Buffer<float> qkv = random_buffer(T * row);
    Buffer<float> out(static_cast<std::size_t>(T * attended)), lse(static_cast<std::size_t>(T * shape.heads));
    measure(state, {.flops = 4 * pack.pairs * static_cast<double>(attended)}, products_seconds(),
            [&] { attention_forward({}, shape, pack.segments, qkv.data(), out.data(), lse.data()); });
  });
  add("attention_backward", [=, &shape](benchmark::State& state) {
    const Pack pack;
    const Buffer<float> qkv = random_buffer(T * row), d_out = random_buffer(T * attended);
    Buffer<float> out(static_cast<std::size_t>(T * attended)), lse(static_cast<std::size_t>(T * shape.heads));
    Buffer<float> d_qkv(static_cast<std::size_t>(T * row));
    attention_forward({}, shape, pack.segments, qkv.data(), out.data(), lse.data());
    measure(state, {.flops = 10 * pack.pairs * static_cast<double>(attended)}, 2 * products_seconds(), [&] {
      attention_backward({}, shape, pack.segments, T, qkv.data(), out.data(), lse.data(), d_out.data(),
                         d_qkv.data());
    });
  });
  add("rms_norm_forward", [=](benchmark::State& state) {
    Buffer<float> residual = random_buffer(T * C), out = random_buffer(T * C), inverse = random_buffer(T);
    const Buffer<float> branch(static_cast<std::size_t>(T * C)), weight = random_buffer(C);
    measure(state, {.bytes = floats(4 * T * C)}, products_seconds(), [&] {
      add_rms_norm_forward({}, T, C, 1e-5f, residual.data(), branch.data(), weight.data(), out.data(),
                           inverse.data());
    });
  });
  add("rms_norm_backward", [=](benchmark::State& state) {
    const Buffer<float> residual = random_buffer(T * C), weight = random_buffer(C),
                        inverse = random_buffer(T);
    const Buffer<float> d_out = random_buffer(T * C, 1e-6f);
    Buffer<float> d_residual(static_cast<std::size_t>(T * C)), d_weight(static_cast<std::size_t>(C));
    measure(state, {.bytes = floats(4 * T * C)}, 2 * products_seconds(), [&] {
      rms_norm_backward({}, T, C, d_out.data(), residual.data(), weight.data(), inverse.data(),
                        d_residual.data(), d_weight.data());
    });
  });
  add("rotary", [=, &shape](benchmark::State& state) {
    const Pack pack;
    Buffer<float> qkv = random_buffer(T * row);
    const auto inverse = inverse_frequencies(shape.head_dim);
    const std::int64_t heads = shape.heads + shape.kv_heads;
    measure(state, {.bytes = floats(2 * T * heads * shape.head_dim)}, products_seconds(), [&] {
      rotary({}, Rotation::kForward, T, heads, shape.head_dim, pack.positions.data(), inverse.data(),
             qkv.data(), row);
    });
  });
  add("swiglu_forward", [=](benchmark::State& state) {
    const Buffer<float> gate_up = random_buffer(T * 2 * F);
    Buffer<float> out(static_cast<std::size_t>(T * F));
    measure(state, {.bytes = floats(3 * T * F)}, products_seconds(),
            [&] { swiglu_forward({}, T, F, gate_up.data(), out.data()); });
  });
  add("swiglu_backward", [=](benchmark::State& state) {
    const Buffer<float> gate_up = random_buffer(T * 2 * F), d_out = random_buffer(T * F);
    Buffer<float> d_gate_up(static_cast<std::size_t>(T * 2 * F));
    measure(state, {.bytes = floats(5 * T * F)}, 2 * products_seconds(),
            [&] { swiglu_backward({}, T, F, gate_up.data(), d_out.data(), d_gate_up.data()); });
  });
  add("embedding_forward", [=](benchmark::State& state) {
    const Buffer<float> table = random_buffer(V * C);
    const auto tokens = random_tokens(T, V);
    Buffer<float> out(static_cast<std::size_t>(T * C));
    measure(state, {.bytes = floats(2 * T * C)}, products_seconds(),
            [&] { embedding_forward({}, T, C, tokens.data(), table.data(), out.data()); });
  });
  add("embedding_backward", [=](benchmark::State& state) {
    Buffer<float> d_table(static_cast<std::size_t>(V * C));
    const auto tokens = random_tokens(T, V);
    const Buffer<float> d_out = random_buffer(T * C);
    measure(state, {.bytes = floats(3 * T * C)}, 2 * products_seconds(),
            [&] { embedding_backward({}, T, C, tokens.data(), d_out.data(), d_table.data()); });
  });

  const double head_flops = 2.0 * static_cast<double>(T * C * V);
  add("head_product", [=](benchmark::State& state) {  // whole, and so with its logits in memory
    const Buffer<float> hidden = random_buffer(T * C), weight = random_buffer(V * C);
    Buffer<float> logits(static_cast<std::size_t>(T * V));
    measure(state, {.flops = head_flops}, 0, [&] { product(T, V, C, hidden, weight, logits); });
  });
  add("head_forward", [=](benchmark::State& state) {
    const Buffer<float> hidden = random_buffer(T * C), weight = random_buffer(V * C, 0.1f);
    const auto target = random_tokens(T, V);
    Linear head;
    head.prepare({}, V, C, weight.data(), Precision::kFloat32, Use::kTraining);
    Buffer<float> log_probability(static_cast<std::size_t>(T));
    measure(state, {.flops = head_flops}, 0, [&] {
      head_forward({}, T, C, V, hidden.data(), head, target.data(), 1.0f, log_probability.data());
    });
  });
  add("head_forward_backward", [=](benchmark::State& state) {
    const Buffer<float> hidden = random_buffer(T * C), weight = random_buffer(V * C, 0.1f),
                        d = random_buffer(T);
    const auto target = random_tokens(T, V);
    Linear head;
    head.prepare({}, V, C, weight.data(), Precision::kFloat32, Use::kTraining);
    Buffer<float> log_probability(static_cast<std::size_t>(T));
    Buffer<float> d_hidden(static_cast<std::size_t>(T * C)), d_weight(static_cast<std::size_t>(V * C));
    measure(state, {.flops = 3 * head_flops}, 0, [&] {
      head_forward_backward({}, T, C, V, hidden.data(), head, target.data(), 1.0f, d.data(),
                            log_probability.data(), d_hidden.data(), d_weight.data());
    });
  });
}

/// 128 rows: four prompts of 40 tokens, 32 samples each, 8 tokens in.
void add_decoding(const Model& model) {
  constexpr std::int64_t kRows = 128, kPrompts = 4;
  constexpr std::int32_t kPromptLength = 40, kOwnLength = 8;
  const std::int64_t V = model.V;
  const AttentionShape& shape = model.attention;
  const auto add = [&](const std::string& name, std::function<void(benchmark::State&)> body) {
    add_benchmark("decode/" + model.name + "/" + name, std::move(body));
  };
  const auto products_seconds = [&model] { return LayerProducts(model, kRows).seconds(); };

  add("layer_products", [=, &model](benchmark::State& state) {
    LayerProducts products(model, kRows);
    measure(state, {.flops = products.flops()}, 0, [&] { products(); });
  });
  struct Caches {
    Buffer<float> keys, values;
    CacheView view;
    Caches(const AttentionShape& s, std::int64_t slots, std::int64_t capacity)
        : keys(random_buffer(slots * s.kv_heads * s.head_dim * capacity)),
          values(random_buffer(slots * s.kv_heads * s.head_dim * capacity)),
          view{keys.data(), values.data(), slots, capacity} {}
  };
  // The same rows, 8 samples of 16 prompts, 260 tokens in: the own caches outweigh the rest.
  struct Lengths {
    std::string name;
    std::int32_t prompts, prompt, own;
  };
  for (const Lengths& lengths :
       {Lengths{"", kPrompts, kPromptLength, kOwnLength}, Lengths{"/long", 16, 16, 260}}) {
    add("decode_attention" + lengths.name, [=, &shape](benchmark::State& state) {
      const Caches prefix(shape, lengths.prompts, 48), own(shape, kRows, lengths.own / 16 * 16 + 16);
      std::vector<std::int32_t> prefix_slot, own_slot;
      for (std::int32_t i = 0; i < kRows; ++i) {
        prefix_slot.push_back(i / (static_cast<std::int32_t>(kRows) / lengths.prompts));
        own_slot.push_back(i);
      }
      const std::vector<std::int32_t> prefix_length(kRows, lengths.prompt), own_length(kRows, lengths.own);
      const Buffer<float> qkv = random_buffer(kRows * shape.row());
      Buffer<float> out(static_cast<std::size_t>(kRows * shape.heads * shape.head_dim));
      const double pairs =
          kRows * (lengths.prompt + lengths.own) * static_cast<double>(shape.heads * shape.head_dim);
      measure(state, {.flops = 4 * pairs}, products_seconds(), [&] {
        decode_attention({}, shape, kRows, qkv.data(), prefix.view, prefix_slot.data(), prefix_length.data(),
                         own.view, own_slot.data(), own_length.data(), out.data());
      });
    });
  }
  add("cache_store", [=, &shape](benchmark::State& state) {
    const Caches own(shape, kRows, 16);
    std::vector<std::int32_t> slot;
    for (std::int32_t i = 0; i < kRows; ++i) slot.push_back(i);
    const std::vector<std::int32_t> position(kRows, kOwnLength);
    const Buffer<float> qkv = random_buffer(kRows * shape.row());
    measure(state, {.bytes = floats(4 * kRows * shape.kv_heads * shape.head_dim)}, products_seconds(),
            [&] { cache_store({}, shape, kRows, qkv.data(), slot.data(), position.data(), own.view); });
  });
  add("head_product", [=, &model](benchmark::State& state) {
    const Buffer<float> hidden = random_buffer(kRows * model.C), weight = random_buffer(V * model.C);
    Buffer<float> logits(static_cast<std::size_t>(kRows * V));
    measure(state, {.flops = 2.0 * static_cast<double>(kRows * model.C * V)}, products_seconds(),
            [&] { product(kRows, V, model.C, hidden, weight, logits); });
  });
  for (const SamplingShape& sampling : {SamplingShape{.rows = kRows, .vocabulary = V},
                                        SamplingShape{.rows = kRows, .vocabulary = V, .temperature = 0.7f},
                                        SamplingShape{.rows = kRows, .vocabulary = V, .top_p = 0.9f},
                                        SamplingShape{.rows = kRows, .vocabulary = V, .greedy = true}}) {
    const std::string name = sampling.greedy            ? "/greedy"
                             : sampling.top_p < 1       ? "/top_p"
                             : sampling.temperature < 1 ? "/temperature"
                                                        : "";
    add("sample_tokens" + name, [=](benchmark::State& state) {
      Buffer<float> logits = random_buffer(kRows * V, 2);
      std::vector<double> uniform;
      for (std::int64_t i = 0; i < kRows; ++i) uniform.push_back((static_cast<double>(i) + 0.5) / kRows);
      std::vector<std::int32_t> token(kRows);
      Buffer<float> log_probability(kRows), at_1(kRows);
      measure(state, {.bytes = floats(kRows * V)}, products_seconds(), [&] {
        sample_tokens({}, sampling, logits.data(), uniform.data(), token.data(), log_probability.data(),
                      at_1.data());
      });
    });
  }
}

void add_optimizer() {
  constexpr std::int64_t kParameters = 1 << 20;
  add_benchmark("optimizer/adamw", [](benchmark::State& state) {
    const Buffer<float> gradient = random_buffer(kParameters);
    Buffer<float> parameter = random_buffer(kParameters), m(kParameters), v(kParameters);
    measure(state, {.bytes = floats(7 * kParameters)}, 0, [&] {
      adamw({}, {.learning_rate = 1e-4f}, kParameters, gradient.data(), parameter.data(), m.data(), v.data());
    });
  });
  add_benchmark("optimizer/add_fixed_point", [](benchmark::State& state) {
    const Buffer<float> gradient = random_buffer(kParameters);
    Buffer<std::int64_t> sum(kParameters);
    std::uint32_t refused = 0;
    measure(state, {.bytes = floats(5 * kParameters)}, 0,
            [&] { add_fixed_point({}, kParameters, 64, gradient.data(), sum.data(), &refused); });
  });
  add_benchmark("optimizer/from_fixed_point", [](benchmark::State& state) {
    const Buffer<std::int64_t> sum(kParameters);
    Buffer<float> gradient(kParameters);
    measure(state, {.bytes = floats(3 * kParameters)}, 0,
            [&] { from_fixed_point({}, kParameters, sum.data(), gradient.data()); });
  });
  add_benchmark("optimizer/sum_of_squares", [](benchmark::State& state) {
    const Buffer<float> gradient = random_buffer(kParameters);
    std::vector<double> partial(kParameters / kSumBlock);
    measure(state, {.bytes = floats(kParameters)}, 0,
            [&] { sum_of_squares({}, kParameters, gradient.data(), partial.data()); });
  });
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("peak GFLOP/s (1024^3 product)", std::to_string(peak() * 1e-9));
  add_products();
  for (const Model& model : models()) {
    add_training(model);
    add_decoding(model);
  }
  add_optimizer();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
