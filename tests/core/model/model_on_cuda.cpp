// Whole models on a GPU (or its stand-in) against the CPU: every family and descriptions drawn at random,
// through forward and backward pass, reward head and generation.
#include <gtest/gtest.h>

#include <utility>

#include "core/model/generation.h"
#include "core/model/passes.h"
#include "core/model/test_models.h"
#include "core/model/tiny_families.h"
#include "support/cuda/queue.h"

namespace infalign::model {
namespace {

using testing::expect_near;
using testing::Model;
using testing::Task;

/// A model's parameters on a device, prepared for every pass.
class Placed {
 public:
  Placed(const Model& model, const kernels::Stream& on,
         kernels::Precision precision = kernels::Precision::kFloat32)
      : parameters_(on, model.parameters.size()), weights_(prepared(model, on, precision)) {}
  const Weights& weights() const { return weights_; }

 private:
  Weights prepared(const Model& model, const kernels::Stream& on, kernels::Precision precision) {
    kernels::upload(on, std::span<const float>(model.parameters), parameters_.data());
    return model.transformer.prepare(on, std::as_const(parameters_).span(), kernels::Use::kTraining,
                                     precision);
  }
  kernels::Buffer<float> parameters_;
  Weights weights_;
};

std::vector<float> on_cpu(const kernels::Stream& on, const kernels::Buffer<float>& buffer, std::size_t size) {
  std::vector<float> values(size);
  kernels::download(on, buffer.data(), std::span<float>(values));
  return values;
}

/// Two prompts, of which the first has two responses, the second one.
const Task kTask({{{3, 1, 4, 1, 5}, {{6, 5, 3}, {5, 8, 9, 7, 9, 3, 2}}}, {{9, 2}, {{3, 8}}}}, 0.7f);

struct Outcome {
  std::vector<float> hidden, log_probabilities, gradient;
};

Outcome pass(const kernels::Stream& on, const Model& model, Keep keep,
             kernels::Precision precision = kernels::Precision::kFloat32) {
  const Placed placed(model, on, precision);
  Activations activations;
  TokenLogProbabilities head;
  const auto values = static_cast<std::size_t>(kTask.batch.size() * model.transformer.config().hidden_size);
  kernels::Buffer<float> hidden(on, values), d_hidden(on, values), gradient(on, model.parameters.size());
  model.transformer.forward(on, placed.weights(), kTask.batch, keep, activations);
  kernels::copy(on, static_cast<std::int64_t>(values), activations.hidden(), hidden.data());
  Outcome outcome{on_cpu(on, hidden, values), {}, {}};
  head.forward_backward(on, model.transformer, placed.weights(), activations, kTask.targets,
                        kTask.temperature, kTask.loss_weight, d_hidden.span(), gradient.span());
  outcome.log_probabilities.assign(head.values().begin(), head.values().end());
  model.transformer.backward(on, placed.weights(), kTask.batch, activations, std::as_const(d_hidden).span(),
                             gradient.span());
  outcome.gradient = on_cpu(on, gradient, gradient.size());
  return outcome;
}

class ModelOnCuda : public ::testing::TestWithParam<testing::NamedConfig> {
 protected:
  void SetUp() override {
    if (kernels::cuda_device_count() == 0) GTEST_SKIP() << "no GPU";
    gpu = kernels::Stream(kernels::Device::kCuda);
  }
  kernels::Stream gpu;
};
INSTANTIATE_TEST_SUITE_P(Family, ModelOnCuda, ::testing::ValuesIn(testing::every_model(12)),
                         [](const auto& of) { return of.param.name; });

TEST_P(ModelOnCuda, BothPassesAreThoseOfTheCpu) {
  const Model model = testing::random_model(GetParam().config, 7);
  for (const Keep keep : {Keep::kEverything, Keep::kBlockInputs}) {
    const Outcome expected = pass({}, model, keep), actual = pass(gpu, model, keep);
    expect_near(actual.hidden, expected.hidden, 1e-5, "hidden");
    expect_near(actual.log_probabilities, expected.log_probabilities, 1e-5, "log-probability");
    expect_near(actual.gradient, expected.gradient, 5e-5, "gradient");
  }
}

// Activations are stored in bfloat16, rounded by up to 2^-8 of their size, some twenty times one after the
// other.
TEST_P(ModelOnCuda, BothPassesInBfloat16AreNearThoseOfTheCpu) {
  const Model model = testing::random_model(GetParam().config, 7);
  const Outcome expected = pass({}, model, Keep::kEverything);
  const Outcome actual = pass(gpu, model, Keep::kEverything, kernels::Precision::kBfloat16);
  expect_near(actual.hidden, expected.hidden, 0.04, "hidden");
  expect_near(actual.log_probabilities, expected.log_probabilities, 0.03, "log-probability");
  expect_near(actual.gradient, expected.gradient, 0.15, "gradient");
}

TEST_P(ModelOnCuda, RewardsAndTheirGradientAreThoseOfTheCpu) {
  const Model model = testing::random_model(testing::with_score_head(GetParam().config), 9);
  const std::vector<std::int32_t> rows{4, 7, 11};
  const std::vector<float> d_reward{0.5f, -1, 2};
  const auto run = [&](const kernels::Stream& on) {
    const Placed placed(model, on);
    Activations activations;
    Outcome outcome;
    outcome.log_probabilities = model.transformer.score(on, placed.weights(), kTask.batch, rows, activations);
    model.transformer.forward(on, placed.weights(), kTask.batch, Keep::kEverything, activations);
    outcome.hidden = score_rows(on, model.transformer, placed.weights(), activations, rows);
    kernels::Buffer<float> d_hidden(
        on, static_cast<std::size_t>(kTask.batch.size() * model.transformer.config().hidden_size));
    kernels::Buffer<float> gradient(on, model.parameters.size());
    score_rows_backward(on, model.transformer, placed.weights(), activations, rows, d_reward, d_hidden.span(),
                        gradient.span());
    model.transformer.backward(on, placed.weights(), kTask.batch, activations, std::as_const(d_hidden).span(),
                               gradient.span());
    outcome.gradient = on_cpu(on, gradient, gradient.size());
    return outcome;
  };
  const Outcome expected = run({}), actual = run(gpu);
  expect_near(actual.log_probabilities, expected.log_probabilities, 1e-5, "reward");
  expect_near(actual.hidden, expected.hidden, 1e-5, "reward of kept states");
  expect_near(actual.gradient, expected.gradient, 5e-5, "gradient");
}

TEST_P(ModelOnCuda, ResponsesAreThoseOfTheCpu) {
  const Model model = testing::random_model(GetParam().config, 7);
  const std::vector<Prompt> prompts{{.tokens = {3, 1, 4, 1, 5}, .id = 17}, {.tokens = {9, 2}, .id = 4}};
  for (const float top_p : {1.0f, 0.6f}) {
    const SamplingSettings settings{
        .temperature = 0.8f, .top_p = top_p, .max_new_tokens = 9, .stop_tokens = {2}};
    const auto draw = [&](const kernels::Stream& on) {
      const Placed placed(model, on);
      return Generator(model.transformer)
          .generate(on, placed.weights(), prompts, 5, settings,
                    {.seed = 3, .purpose = kernels::Purpose::kPolicy});
    };
    const auto expected = draw({});
    const int launched = host_cuda::graph_launches();
    const auto actual = draw(gpu);
    EXPECT_GT(host_cuda::graph_launches(), launched) << "steps of as many rows as one before are replayed";
    for (std::size_t i = 0; i < prompts.size(); ++i)
      for (std::size_t s = 0; s < 5; ++s) {
        const Response &a = expected[i][s], &b = actual[i][s];
        EXPECT_EQ(a.tokens, b.tokens);
        EXPECT_EQ(a.stopped, b.stopped);
        expect_near(b.log_probabilities, a.log_probabilities, 1e-5, "log-probability");
        expect_near(b.log_probabilities_at_1, a.log_probabilities_at_1, 1e-5, "log-probability at 1");
      }
  }
}

}  // namespace
}  // namespace infalign::model
