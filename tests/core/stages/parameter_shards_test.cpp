// Models that are divided among ranks: each holds its interval and no more, reads no more of the files than
// that, and can have the rest.
#include "core/stages/parameter_shards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/stages/model_folder.h"
#include "core/stages/storyteller.h"
#include "core/storage/durable.h"
#include "distributed/sharded_optimizer.h"
#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

using distributed::Communicator;

std::vector<float> whole_of(const ModelFolder& folder) {
  std::vector<float> all(static_cast<std::size_t>(folder.transformer.layout().size()));
  folder.gather_to({}, all);
  return all;
}

class ShardedFolder : public testing::TestWithParam<kernels::Precision> {
 protected:
  static ModelFolder load(ParameterShards* shards) {
    return ModelFolder::load_frozen(kStoryteller, GetParam(), {}, {shards});
  }
};
INSTANTIATE_TEST_SUITE_P(Stored, ShardedFolder,
                         testing::Values(kernels::Precision::kFloat32, kernels::Precision::kBfloat16),
                         [](const auto& param) {
                           return param.param == kernels::Precision::kFloat32 ? "float32" : "bfloat16";
                         });

TEST_P(ShardedFolder, IsHeldInPartAndHadWhole) {
  const auto expected = whole_of(load(nullptr));
  for (const auto& [size, group] : {std::pair{2, 0}, {3, 0}, {4, 2}})
    distributed::run_threads(size, [&, group = group](Communicator& ranks) {
      const distributed::ShardGroups groups(ranks, group);
      ParameterShards shards(groups);
      const auto folder = load(&shards);
      EXPECT_TRUE(folder.is_sharded());
      EXPECT_EQ(folder.held, shards.held(std::ssize(expected)));
      EXPECT_EQ(whole_of(folder), expected);
      std::vector<float> part(static_cast<std::size_t>(folder.held.size()));
      folder.copy_to({}, part);
      EXPECT_TRUE(std::ranges::equal(
          part, std::span(expected).subspan(static_cast<std::size_t>(folder.held.begin), part.size())));
      const std::size_t width = GetParam() == kernels::Precision::kFloat32 ? 4 : 2;
      EXPECT_EQ(folder.gathering.held.size(), part.size() * width);
      EXPECT_EQ(folder.parameters.size() + folder.narrow.matrices().size(), 0u)
          << "more than its part is held";
      ranks.barrier();
    });
}

TEST_P(ShardedFolder, ComputesOnEveryRankWhatTheWholeDoes) {
  model::PackedBatch batch;
  model::Targets targets;
  targets.add_sequence(batch, batch.add(std::vector<std::int32_t>{1, 5, 2, 9, 300, 5, 7}));
  const auto log_probabilities = [&](const ModelFolder& folder) {
    const auto weights = folder.prepare({}, kernels::Use::kScoring, kernels::Precision::kFloat32);
    model::Activations activations;
    model::TokenLogProbabilities head;
    folder.transformer.forward({}, weights, batch, model::Keep::kNothing, activations);
    head.forward({}, folder.transformer, weights, activations, targets, 1);
    return std::vector<float>(head.values().begin(), head.values().end());
  };
  const auto expected = log_probabilities(load(nullptr));
  distributed::run_threads(3, [&](Communicator& ranks) {
    const distributed::ShardGroups groups(ranks, 0);
    ParameterShards shards(groups);
    const auto folder = load(&shards);
    for (int time = 0; time < 2 * ranks.rank(); ++time)  // as often as each likes
      EXPECT_EQ(log_probabilities(folder), expected);
    ranks.barrier();
  });
}

TEST(ParameterShards, OthersArePutInPlace) {
  const auto expected = ModelFolder::load(kStoryteller);
  const auto begin = expected.parameters.data();
  distributed::run_threads(3, [&](Communicator& ranks) {
    const distributed::ShardGroups groups(ranks, 0);
    ParameterShards shards(groups);
    auto folder = ModelFolder::load(kStoryteller, {}, &shards);
    const auto values_of = folder.values({});
    for (const auto& view : folder.transformer.layout().views()) {
      const auto values = values_of(view);
      ASSERT_TRUE(std::ranges::equal(values, std::span(begin + view.offset, values.size()))) << view.name;
    }
    ranks.barrier();
  });
}

TEST(ParameterShards, FreshAndRewardModelsAreThoseOfOneRank) {
  const auto fresh = whole_of(ModelFolder::fresh(kStoryteller, 5));
  const auto reward = whole_of(load_as_reward_model(kStoryteller, 6, 2));
  distributed::run_threads(3, [&](Communicator& ranks) {
    const distributed::ShardGroups groups(ranks, 0);
    ParameterShards shards(groups);
    const auto fresh_here = ModelFolder::fresh(kStoryteller, 5, &shards);
    const auto reward_here = load_as_reward_model(kStoryteller, 6, 2, &shards);
    EXPECT_EQ(whole_of(fresh_here), fresh);
    EXPECT_EQ(whole_of(reward_here), reward);
    ranks.barrier();
  });
}

// Parameters, gradients and optimizer of a model of two million parameters.
TEST(ParameterShards, TwoRanksHoldLittleMoreThanHalfOfWhatOneDoes) {
  const infalign::ScratchFolder scratch;
  const auto folder = scratch.path() / "model";
  std::filesystem::copy(kStoryteller, folder);
  auto config = nlohmann::json::parse(storage::read_file(folder / "config.json"));
  config["hidden_size"] = 192;
  config["intermediate_size"] = 512;
  config["num_hidden_layers"] = 12;
  std::ofstream(folder / "config.json") << config;
  const auto held = [&](int size) {
    std::atomic<std::int64_t> most{0};
    distributed::run_threads(size, [&](Communicator& ranks) {
      const distributed::ShardGroups groups(ranks, 0);
      ParameterShards shards(groups);
      const auto model = ModelFolder::fresh(folder, 1, &shards);
      const auto optimizer = distributed::ShardedOptimizer::bytes(model.transformer.layout().size(), size,
                                                                  distributed::SumMode::kReproducible,
                                                                  distributed::Sharding::kParameters);
      const auto bytes = static_cast<std::int64_t>(model.own().size_bytes()) + optimizer.sums +
                         optimizer.gradient + optimizer.moments;
      for (auto before = most.load(); before < bytes && !most.compare_exchange_weak(before, bytes);) {
      }
      ranks.barrier();
    });
    return static_cast<double>(most);
  };
  EXPECT_LT(held(2), 0.55 * held(1));
}

}  // namespace
}  // namespace infalign::stages
