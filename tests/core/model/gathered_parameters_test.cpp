// Parameters that are gathered part by part compute, to the bit, what they do when all of them are there: in
// every family and every pass, held in float32 or bfloat16, with and without an adapter on them.
#include "core/model/gathered_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "core/model/adapter.h"
#include "core/model/generation.h"
#include "core/model/passes.h"
#include "core/model/test_models.h"
#include "core/model/tiny_families.h"

namespace infalign::model {
namespace {

using kernels::Precision;
using kernels::Use;
using testing::frozen_of;
using testing::gradient;
using testing::kStream;
using testing::log_probabilities;
using testing::Model;
using testing::Task;

/// Values that come late: until they are waited for, what they will overwrite is spoilt.
template <class T>
class LateSource final : public ParameterSource {
 public:
  explicit LateSource(const T* whole) : whole_(whole) {}
  ~LateSource() override { EXPECT_TRUE(begun_.empty()) << "a pass left something under way"; }

  void begin(std::vector<ParameterRange> ranges, std::span<std::byte> to) override {
    std::fill_n(reinterpret_cast<T*>(to.data()), to.size() / sizeof(T), static_cast<T>(0x7fc0));
    for (const ParameterRange& range : ranges) gathered_ += range.size;
    begun_.emplace_back(std::move(ranges), to);
  }
  void wait() override {
    for (const auto& [ranges, to] : begun_) {
      std::byte* end = to.data();
      for (const auto& [offset, size] : ranges) {
        std::memcpy(end, whole_ + offset, static_cast<std::size_t>(size) * sizeof(T));
        end += static_cast<std::size_t>(size) * sizeof(T);
      }
      EXPECT_EQ(end, to.data() + to.size());
    }
    begun_.clear();
  }
  std::int64_t gathered() const { return gathered_; }

 private:
  const T* whole_;
  std::vector<std::pair<std::vector<ParameterRange>, std::span<std::byte>>> begun_;
  std::int64_t gathered_ = 0;
};

template <class T>
Gathering gathering(const T* whole) {
  return {std::make_shared<LateSource<T>>(whole), std::make_shared<GatherSpace>()};
}

/// Tokens and log-probabilities of responses.
std::vector<std::vector<float>> samples(const Transformer& transformer, const Weights& weights) {
  const std::vector<Prompt> prompts = {{{1, 5, 2}, 3}, {{4}, 5}};
  std::vector<std::vector<float>> all;
  const SamplingSettings settings{.max_new_tokens = 8, .stop_tokens = {3}};
  for (const auto& of_prompt : Generator(transformer)
                                   .generate(kStream, weights, prompts, 3, settings,
                                             {.seed = 5, .purpose = kernels::Purpose::kPolicy}))
    for (const Response& response : of_prompt) {
      all.emplace_back(response.tokens.begin(), response.tokens.end());
      all.push_back(response.log_probabilities);
    }
  return all;
}

class Gathered : public ::testing::TestWithParam<testing::NamedConfig> {
 protected:
  const Model model = testing::random_model(GetParam().config, 7);
  const Transformer& transformer = model.transformer;
  const std::int64_t size = transformer.layout().size();
};
INSTANTIATE_TEST_SUITE_P(Family, Gathered, ::testing::ValuesIn(testing::every_model(0)),
                         [](const auto& param) { return param.param.name; });

TEST_P(Gathered, ComputesWhatTheWholeDoes) {
  const auto from = gathering(model.parameters.data());
  for (const Use use : {Use::kScoring, Use::kSampling, Use::kTraining})
    EXPECT_EQ(log_probabilities(transformer, transformer.prepare(kStream, from, use)),
              log_probabilities(transformer, transformer.prepare(kStream, model.parameters, use)));
}

TEST_P(Gathered, HasTheGradientOfTheWhole) {
  const auto weights = transformer.prepare(kStream, gathering(model.parameters.data()), Use::kTraining);
  for (const Keep keep : {Keep::kEverything, Keep::kBlockInputs})
    EXPECT_EQ(gradient(transformer, weights, size, Task(), keep), gradient(model, Task(), keep));
}

TEST_P(Gathered, SamplesWhatTheWholeDoes) {
  const auto weights = transformer.prepare(kStream, gathering(model.parameters.data()), Use::kSampling);
  EXPECT_EQ(samples(transformer, weights),
            samples(transformer, transformer.prepare(kStream, model.parameters, Use::kSampling)));
}

TEST_P(Gathered, FrozenOnesToo) {
  const NarrowParameters frozen = frozen_of(model);
  const auto from = gathering(frozen.matrix(0));
  for (const Use use : {Use::kScoring, Use::kSampling})
    EXPECT_EQ(log_probabilities(transformer, transformer.prepare(kStream, frozen, from, use)),
              log_probabilities(transformer, transformer.prepare(kStream, frozen, use)));
  EXPECT_EQ(samples(transformer, transformer.prepare(kStream, frozen, from, Use::kSampling)),
            samples(transformer, transformer.prepare(kStream, frozen, Use::kSampling)));
}

TEST_P(Gathered, AnAdapterOnItHasTheSameGradient) {
  const AdapterLayout layout(transformer.config(), {3, 6, {"all-linear"}});
  const auto values = testing::normal_values(layout.size(), 11, 0.3f);
  Weights expected, actual;
  expected.adapt(kStream, model.weights(), layout, values);
  actual.adapt(kStream, transformer.prepare(kStream, gathering(model.parameters.data()), Use::kTraining),
               layout, values);
  EXPECT_EQ(gradient(transformer, actual, layout.size()), gradient(transformer, expected, layout.size()));
}

TEST_P(Gathered, ARewardModelScoresWhatTheWholeDoes) {
  const Model reward = testing::random_model(testing::with_score_head(GetParam().config), 8);
  const NarrowParameters frozen = frozen_of(reward);
  const Task task;
  const auto scores = [&](const Weights& weights) {
    Activations activations;
    return reward.transformer.score(kStream, weights, task.batch, task.targets.rows, activations);
  };
  const auto& whole = reward.parameters;
  EXPECT_EQ(scores(reward.transformer.prepare(kStream, gathering(whole.data()), Use::kScoring)),
            scores(reward.transformer.prepare(kStream, whole, Use::kScoring)));
  EXPECT_EQ(scores(reward.transformer.prepare(kStream, frozen, gathering(frozen.matrix(0)), Use::kScoring)),
            scores(reward.transformer.prepare(kStream, frozen, Use::kScoring)));
}

// Models of other sizes, and the same one after its parameters changed, in the memory of those before them.
TEST(GatheredParameters, ModelsShareASpace) {
  const auto space = std::make_shared<GatherSpace>();
  auto config = testing::tiny_config();
  Model small = testing::random_model(config, 1);
  config.layers = 3;
  config.vocab_size = 20;
  const Model large = testing::random_model(config, 2);
  const auto weights = [&](const Model& model) {
    return model.transformer.prepare(
        kStream, {std::make_shared<LateSource<float>>(model.parameters.data()), space}, Use::kTraining);
  };
  const auto of_small = weights(small), of_large = weights(large);
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_EQ(log_probabilities(small.transformer, of_small), log_probabilities(small));
    EXPECT_EQ(samples(large.transformer, of_large), samples(large.transformer, large.weights()));
  }
  for (float& value : small.parameters) value = -value;
  EXPECT_EQ(log_probabilities(small.transformer, weights(small)), log_probabilities(small));
}

// A layer once on the way down and once on the way up, but for the last two, which are still there; rows of
// the embedding instead of all of it; and, once, what stands on the layers.
TEST(GatheredParameters, ATrainingPassGathersNoMoreThanItNeeds) {
  auto config = testing::tiny_config();
  config.layers = 4;
  const Model model = testing::random_model(config, 1);
  const ParameterLayout& layout = model.transformer.layout();
  const auto source = std::make_shared<LateSource<float>>(model.parameters.data());
  const auto weights =
      model.transformer.prepare(kStream, {source, std::make_shared<GatherSpace>()}, Use::kTraining);
  gradient(model.transformer, weights, layout.size());
  const std::int64_t layer = layout.layer(1).input_norm.weight - layout.layer(0).input_norm.weight;
  const std::int64_t top = layout.size() - layout.final_norm().weight;
  const std::int64_t distinct_tokens = 11;
  EXPECT_EQ(source->gathered(), 6 * layer + top + distinct_tokens * config.hidden_size);
}

TEST(GatheredParameters, RefusesWhatIsNotAtHand) {
  const Model model = testing::random_model(testing::tiny_config(), 1);
  const ParameterLayout& layout = model.transformer.layout();
  const auto weights = model.transformer.prepare(kStream, gathering(model.parameters.data()), Use::kTraining);
  EXPECT_THROW(weights.at(layout.layer(0).input_norm.weight), std::logic_error);
  weights.hold(1);
  EXPECT_EQ(*weights.at(layout.layer(1).input_norm.weight),
            model.parameters[static_cast<std::size_t>(layout.layer(1).input_norm.weight)]);
  EXPECT_THROW(weights.at(layout.layer(0).input_norm.weight), std::logic_error);
  EXPECT_THROW(weights.matrix(0, Matrix::kQkv), std::logic_error);
  EXPECT_THROW(weights.head(), std::logic_error);
}

TEST(GatheredParameters, TakesTwoLayersAndTheTop) {
  auto config = testing::tiny_config();
  for (const bool tied : {false, true}) {
    config.tie_word_embeddings = tied;
    config.layers = 5;
    const ParameterLayout layout(config);
    const std::int64_t layer = layout.layer(1).input_norm.weight - layout.layer(0).input_norm.weight;
    const std::int64_t top = config.hidden_size + config.vocab_size * config.hidden_size;
    const auto bytes = [&](Precision stored) {
      return GatheredParameters::bytes(config, Use::kScoring, Precision::kFloat32, stored);
    };
    EXPECT_EQ(bytes(Precision::kFloat32), 4 * (2 * layer + top));
    EXPECT_EQ(bytes(Precision::kBfloat16), 2 * (2 * layer + top));
    EXPECT_GT(GatheredParameters::bytes(config, Use::kSampling, Precision::kFloat32),
              bytes(Precision::kFloat32));
  }
}

}  // namespace
}  // namespace infalign::model
