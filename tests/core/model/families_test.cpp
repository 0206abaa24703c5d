// Every family, and features in combinations that no family has, against the float64 program:
// log-probabilities, rewards, every single gradient by central differences, and the agreement of decoding
// with training.
#include "core/model/families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/generation.h"
#include "core/model/passes.h"
#include "core/model/reference_passes.h"
#include "core/model/test_models.h"
#include "core/model/tiny_families.h"
#include "core/model/transformer.h"

namespace infalign::model {
namespace {

using testing::expect_near;
using testing::gradient;
using testing::in_float64;
using testing::kStream;
using testing::Model;
using testing::reference_log_probabilities;
using testing::Task;

class EveryModel : public ::testing::TestWithParam<testing::NamedConfig> {
 protected:
  Model model() const { return testing::random_model(GetParam().config, 7); }
};
INSTANTIATE_TEST_SUITE_P(Family, EveryModel, ::testing::ValuesIn(testing::every_model(24)),
                         [](const auto& param) { return param.param.name; });

TEST_P(EveryModel, LogProbabilitiesAreThoseOfTheReferenceWhateverIsKept) {
  const Model m = model();
  const Task task(testing::kOneTree, 0.7f);
  const auto expected = reference_log_probabilities(GetParam().config, in_float64(m.parameters), task);
  for (const Keep keep : {Keep::kNothing, Keep::kKeysValues, Keep::kBlockInputs, Keep::kEverything})
    expect_near(testing::log_probabilities(m, task, keep), expected, 5e-6);
}

TEST_P(EveryModel, GradientIsThatOfCentralDifferences) {
  const Model m = model();
  const Task task;
  const auto loss = [&](std::span<const double> parameters) {
    return testing::weighted_sum(task.loss_weight,
                                 reference_log_probabilities(GetParam().config, parameters, task));
  };
  expect_near(gradient(m, task), testing::central_differences(m.parameters, loss), 1e-5);
}

TEST_P(EveryModel, ComputingBlocksAgainGivesTheSameBits) {
  const Model m = model();
  const Task task;
  EXPECT_EQ(gradient(m, task, Keep::kBlockInputs), gradient(m, task, Keep::kEverything));
}

TEST_P(EveryModel, RewardsAreThoseOfTheReference) {
  const Model m = testing::random_model(testing::with_score_head(GetParam().config), 9);
  const Task task;
  const auto expected = testing::reference_rewards(m.transformer.config(), in_float64(m.parameters), task);
  expect_near(testing::rewards(m.transformer, m.weights(), task), expected, 5e-6);
  Activations activations;
  m.transformer.forward(kStream, m.weights(), task.batch, Keep::kEverything, activations);
  expect_near(score_rows(kStream, m.transformer, m.weights(), activations, task.last_rows), expected, 5e-6);
}

// Decoding carries keys and values in its caches; what it says of its tokens is what the reference says.
TEST_P(EveryModel, SamplerAgreesWithTheReference) {
  const Model m = model();
  const std::vector<Prompt> prompts = {{{1, 5, 2, 9, 8}, 3}, {{4}, 5}};
  const SamplingSettings settings{.temperature = 0.7f, .max_new_tokens = 12, .stop_tokens = {}};
  const auto all = Generator(m.transformer)
                       .generate(kStream, m.weights(), prompts, 2, settings,
                                 {.seed = 5, .purpose = kernels::Purpose::kPolicy});
  for (std::size_t p = 0; p < prompts.size(); ++p)
    for (const Response& response : all[p]) {
      const Task task({{prompts[p].tokens, {response.tokens}}}, settings.temperature);
      expect_near(response.log_probabilities,
                  reference_log_probabilities(GetParam().config, in_float64(m.parameters), task), 1e-5);
    }
}

TEST_P(EveryModel, ViewsHaveNamesAndFillTheBuffer) {
  const ModelConfig& config = GetParam().config;
  const ParameterLayout layout(config);
  std::int64_t at = 0;
  for (const ParameterView& view : layout.views()) {
    EXPECT_EQ(view.offset, at) << view.name;
    EXPECT_THAT(view.name, ::testing::Not(::testing::HasSubstr(".."))) << "a part without a name";
    at += view.size;
  }
  EXPECT_EQ(layout.size(), at);
}

TEST_P(EveryModel, FreshNormsAndBiasesChangeNothing) {
  const ModelConfig& config = GetParam().config;
  const ParameterLayout layout(config);
  std::vector<float> parameters(static_cast<std::size_t>(layout.size()), 7.0f);
  initialise(config, layout, 1, parameters);
  for (const ParameterView& view : layout.views()) {
    const std::span<const float> values(parameters.data() + view.offset, static_cast<std::size_t>(view.size));
    if (view.role == Role::kNormWeight) {
      EXPECT_THAT(values, ::testing::Each(config.norm == Norm::kRmsPlusOne ? 0.0f : 1.0f)) << view.name;
    } else if (view.role == Role::kHeadNormWeight) {
      EXPECT_THAT(values, ::testing::Each(1.0f)) << view.name;
    } else if (view.role == Role::kBias) {
      EXPECT_THAT(values, ::testing::Each(0.0f)) << view.name;
    } else {
      EXPECT_THAT(values, ::testing::Each(::testing::Ne(7.0f))) << view.name;
    }
  }
}

}  // namespace
}  // namespace infalign::model
