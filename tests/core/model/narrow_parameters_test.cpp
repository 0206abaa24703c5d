// Parameters held in bfloat16 compute what the same rounded parameters in float32 do, in every family and
// every pass, with and without an adapter on them.
#include "core/model/narrow_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/adapter.h"
#include "core/model/generation.h"
#include "core/model/passes.h"
#include "core/model/test_models.h"
#include "core/model/tiny_families.h"

namespace infalign::model {
namespace {

using testing::expect_near;
using testing::frozen_of;
using testing::gradient;
using testing::kStream;
using testing::log_probabilities;
using testing::Model;

/// The parameters as float32 after they were rounded.
Model rounded(const Model& model) {
  Model result = model;
  frozen_of(model).copy_to(kStream, model.transformer.layout(), result.parameters);
  return result;
}

class FrozenFamily : public ::testing::TestWithParam<testing::NamedConfig> {
 protected:
  const Model model = testing::random_model(GetParam().config, 7);
  const Model as_float32 = rounded(model);
  const NarrowParameters frozen = frozen_of(model);
  const Transformer& transformer = model.transformer;
};
INSTANTIATE_TEST_SUITE_P(Family, FrozenFamily, ::testing::ValuesIn(testing::every_model(0)),
                         [](const auto& param) { return param.param.name; });

TEST_P(FrozenFamily, ComputesWhatItsRoundedWeightsDo) {
  const auto expected = log_probabilities(as_float32);
  for (const kernels::Use use : {kernels::Use::kScoring, kernels::Use::kSampling, kernels::Use::kTraining})
    expect_near(log_probabilities(transformer, transformer.prepare(kStream, frozen, use)), expected, 5e-6);
  EXPECT_NE(log_probabilities(model), expected) << "something was rounded";
}

TEST_P(FrozenFamily, SamplesWhatItsRoundedWeightsDo) {
  const std::vector<Prompt> prompts = {{{1, 5, 2}, 3}, {{4}, 5}};
  const SamplingSettings settings{.max_new_tokens = 8, .stop_tokens = {}};
  const auto sample = [&](const Weights& weights) {
    return Generator(transformer)
        .generate(kStream, weights, prompts, 2, settings, {.seed = 5, .purpose = kernels::Purpose::kPolicy});
  };
  const auto expected = sample(as_float32.weights());
  const auto actual = sample(transformer.prepare(kStream, frozen, kernels::Use::kSampling));
  for (std::size_t p = 0; p < prompts.size(); ++p)
    for (std::size_t s = 0; s < 2; ++s) {
      EXPECT_EQ(actual[p][s].tokens, expected[p][s].tokens);
      expect_near(actual[p][s].log_probabilities, expected[p][s].log_probabilities, 1e-5);
    }
}

TEST_P(FrozenFamily, AnAdapterOnItIsTrainedAsOnItsRoundedWeights) {
  const AdapterLayout layout(transformer.config(), {3, 6, {"all-linear"}});
  const auto values = testing::normal_values(layout.size(), 11, 0.3f);
  Weights expected, actual;
  expected.adapt(kStream, as_float32.weights(), layout, values);
  actual.adapt(kStream, transformer.prepare(kStream, frozen, kernels::Use::kTraining), layout, values);
  expect_near(gradient(transformer, actual, layout.size()), gradient(transformer, expected, layout.size()),
              2e-5);
}

TEST_P(FrozenFamily, TakesWhatItSays) {
  const ParameterLayout& layout = transformer.layout();
  std::int64_t matrices = 0, vectors = 0;
  for (const ParameterView& view : layout.views())
    (NarrowParameters::is_narrow(view) ? matrices : vectors) += view.size;
  EXPECT_EQ(NarrowParameters::bytes(layout), 2 * (matrices + vectors) + 4 * vectors);
}

}  // namespace
}  // namespace infalign::model
