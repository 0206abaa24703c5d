#include "core/model/cost.h"

#include <chrono>

#include "core/model/parameters.h"
#include "kernels/device.h"

namespace infalign::model {
namespace {

struct Operations {
  double blocks, attention, head;
};

Operations operations(const ModelConfig& config, const Pass& pass) {
  const ParameterLayout layout(config);
  const std::int64_t first = layout.layer(0).input_norm.weight, end = layout.final_norm().weight;
  double in_blocks = 0;
  for (const ParameterView& view : layout.views())
    if (view.decayed() && view.offset >= first && view.offset < end)
      in_blocks += static_cast<double>(view.size);
  const auto width = static_cast<double>(config.layers * config.heads * config.head_dim);
  const auto head = static_cast<double>(config.vocab_size * config.hidden_size);
  return {2 * in_blocks * pass.tokens, 4 * width * pass.pairs, 2 * head * pass.targets};
}

}  // namespace

Pass& Pass::operator+=(const Pass& other) {
  tokens += other.tokens;
  pairs += other.pairs;
  targets += other.targets;
  return *this;
}

double forward_operations(const ModelConfig& config, const Pass& pass) {
  const auto [blocks, attention, head] = operations(config, pass);
  return blocks + attention + head;
}

double training_operations(const ModelConfig& config, const Pass& pass, Trained trained, Keep keep) {
  const auto [blocks, attention, head] = operations(config, pass);
  const double times = trained == Trained::kAll ? 3 : 2, again = keep == Keep::kBlockInputs ? 1 : 0;
  return (times + again) * blocks + (3.5 + again) * attention + times * head;
}

double measure_speed(const ModelConfig& config, std::int64_t T, kernels::Precision precision) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::duration<double> kLong(0.2);
  const std::int64_t n = config.gate_up_width(), k = config.hidden_size;
  const auto zeros = [](std::int64_t rows, std::int64_t width) {
    return kernels::Buffer<float>(static_cast<std::size_t>(rows * width));
  };
  const auto in = zeros(T, k), weight = zeros(n, k);
  auto out = zeros(T, n);
  kernels::Linear matrix;
  matrix.prepare({}, n, k, weight.data(), precision, kernels::Use::kSampling);
  const auto product = [&] { matrix.forward({}, T, in.data(), out.data()); };
  product();  // the first one generates code
  std::int64_t products = 0;
  const auto start = Clock::now();
  std::chrono::duration<double> taken{};
  for (; taken < kLong; taken = Clock::now() - start, ++products) product();
  return 2.0 * static_cast<double>(T * n * k) * static_cast<double>(products) / taken.count();
}

}  // namespace infalign::model
