// What a plan says of memory is what the objects allocate: every Buffer's bytes are counted here, and
// compared with what its owner had announced.
#include "core/stages/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/model/cost.h"
#include "core/model/generation.h"
#include "core/model/test_models.h"
#include "distributed/sharded_optimizer.h"
#include "kernels/head/head.h"
#include "kernels/reproducible_sum/reproducible_sum.h"

namespace {

// Buffers are the only ones that ask for aligned memory. The size stands before it.
constexpr std::size_t kPrefix = 64;
std::atomic<std::int64_t> in_buffers{0};

void* counted_new(std::size_t size) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kPrefix, (size / kPrefix + 2) * kPrefix));
  if (memory == nullptr) throw std::bad_alloc();
  *reinterpret_cast<std::size_t*>(memory) = size;
  in_buffers += static_cast<std::int64_t>(size);
  return memory + kPrefix;
}

void counted_delete(void* at) {
  if (at == nullptr) return;
  auto* memory = static_cast<std::byte*>(at) - kPrefix;
  in_buffers -= static_cast<std::int64_t>(*reinterpret_cast<std::size_t*>(memory));
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t size, std::align_val_t) { return counted_new(size); }
void operator delete(void* at, std::align_val_t) noexcept { counted_delete(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { counted_delete(at); }

namespace infalign::stages {
namespace {

using model::Keep;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::StartsWith;

const std::filesystem::path kSource = INFALIGN_SOURCE_DIR;

/// What `use` leaves in buffers that live on in what it returns. Kernels keep scratch of their own from the
/// first time on, so the second time counts.
template <class Use>
std::int64_t bytes_left_by(Use&& use) {
  use();
  const auto before = in_buffers.load();
  const auto kept = use();
  return in_buffers - before;
}

model::PackedBatch batch_of(std::int64_t prompts, std::int64_t length) {
  model::PackedBatch batch;
  for (std::int64_t i = 0; i < prompts; ++i)
    batch.add(std::vector<std::int32_t>(static_cast<std::size_t>(length), 1));
  return batch;
}

TEST(PlanBytes, ActivationsAreWhatAForwardPassKeeps) {
  const auto config = model::testing::tiny_config();
  const auto model = model::testing::random_model(config, 1);
  const auto batch = batch_of(3, 5);
  const auto weights = model.weights();
  for (const auto keep : {Keep::kNothing, Keep::kKeysValues, Keep::kBlockInputs, Keep::kEverything})
    EXPECT_EQ(model::Activations::bytes(config, batch.size(), keep), bytes_left_by([&] {
                model::Activations activations;
                model.transformer.forward({}, weights, batch, keep, activations);
                return activations;
              }));
}

TEST(PlanBytes, PreparedWeightsTakeWhatTheySay) {
  using kernels::Precision;
  const auto config = model::testing::tiny_config();
  const auto model = model::testing::random_model(config, 1);
  for (const auto use : {kernels::Use::kScoring, kernels::Use::kSampling, kernels::Use::kTraining})
    for (const auto precision : {Precision::kFloat32, Precision::kBfloat16}) {
      if (precision == Precision::kBfloat16 && !kernels::has_bfloat16()) continue;
      EXPECT_EQ(model::Weights::bytes(config, use, precision), bytes_left_by([&] {
                  return model.transformer.prepare({}, model.parameters, use, precision);
                }));
    }
}

TEST(PlanBytes, TheHeadKeepsWhatItSays) {
  const auto config = model::testing::tiny_config();
  const auto model = model::testing::random_model(config, 1);
  const auto batch = batch_of(3, 5);
  model::Targets targets;
  for (std::int32_t segment = 0; segment < 3; ++segment) targets.add_sequence(batch, segment);
  model::Activations activations;
  model.transformer.forward({}, model.weights(), batch, Keep::kEverything, activations);
  const std::vector<float> d_values(static_cast<std::size_t>(targets.size()), 1);
  std::vector<float> d_hidden(static_cast<std::size_t>(batch.size() * config.hidden_size));
  std::vector<float> gradient(model.parameters.size());
  const auto weights = model.weights();
  // The chunk of logits is the kernel's own, kept from the first time on.
  const auto scratch = kernels::head_scratch(targets.size(), config.vocab_size) * 4;
  for (const bool training : {false, true})
    EXPECT_EQ(model::TokenLogProbabilities::bytes(config, targets.size(), training) - scratch,
              bytes_left_by([&] {
                model::TokenLogProbabilities head;
                if (training)
                  head.forward_backward({}, model.transformer, weights, activations, targets, 1, d_values,
                                        d_hidden, gradient);
                else
                  head.forward({}, model.transformer, weights, activations, targets, 1);
                return head;
              }));
}

TEST(PlanBytes, SamplingKeepsWhatItSays) {
  const auto config = model::testing::tiny_config();
  const auto model = model::testing::random_model(config, 1);
  const std::int64_t samples = 4, longest_response = 7;
  const std::vector<model::Prompt> prompts = {{{1, 2, 3}, 1}, {{1, 2, 3, 4, 5}, 2}};
  model::SamplingSettings settings;
  settings.max_new_tokens = longest_response;
  const auto weights = model.weights();
  const auto decoder = model::Decoder::bytes(config, 2, 3 + 5, 5, 2 * samples, longest_response);
  EXPECT_EQ(
      decoder.prefill + decoder.cache + decoder.rows + model::Generator::logits_bytes(config, 2 * samples),
      bytes_left_by([&] {
        model::Generator generator(model.transformer);
        generator.generate({}, weights, prompts, samples, settings, {1, kernels::Purpose::kPolicy});
        return generator;
      }));
}

TEST(PlanBytes, TheOptimizerKeepsWhatItSaysOnAnyNumberOfRanks) {
  using distributed::ShardedOptimizer;
  using distributed::SumMode;
  for (const int ranks : {1, 2, 4})
    for (const auto mode : {SumMode::kReproducible, SumMode::kFast}) {
      const std::int64_t P = 12 * kernels::kSumBlock;
      for (const auto sharding : {distributed::Sharding::kNothing, distributed::Sharding::kOptimizer}) {
        const auto said = ShardedOptimizer::bytes(P, ranks, mode, sharding);
        const auto before = in_buffers.load();
        std::atomic<std::int64_t> during{0};
        distributed::run_threads(ranks, [&](distributed::Communicator& communicator) {
          const ShardedOptimizer optimizer(communicator, P, mode, {}, sharding);
          communicator.barrier();
          if (communicator.root()) during = in_buffers.load();
          communicator.barrier();
        });
        EXPECT_EQ(said.gradient + said.sums + said.moments, (during - before) / ranks) << ranks << " ranks";
      }
    }
}

TEST(PlanShares, AreEvenWhereRanksDivideMicroBatches) {
  EXPECT_THAT(even_shares(16), ElementsAre(1, 2, 4, 8, 16));
  EXPECT_THAT(even_shares(7), ElementsAre(1, 7));
  StageWork work;
  work.micro_batches = 16;
  EXPECT_DOUBLE_EQ(work.share(4), 1.0 / 4);
  EXPECT_DOUBLE_EQ(work.share(5), 4.0 / 16);
  EXPECT_DOUBLE_EQ(work.share(64), 1.0 / 16);
}

TEST(PlanCost, CountsProductsOfBlocksHeadAndAttention) {
  const auto config = model::testing::tiny_config();  // C 8, F 10, 2 layers, 4 heads (2) of 6, V 13
  model::Pass pass = model::Pass::sequence(3);
  pass.targets = 2;
  const double blocks = 2 * (8 * 8 * 6 + 8 * 4 * 6 + 3 * 8 * 10), head = 13 * 8, pairs = 1 + 2 + 3;
  const double attention = 4.0 * 2 * 24 * pairs;
  EXPECT_DOUBLE_EQ(model::forward_operations(config, pass), 2 * 3 * blocks + 2 * 2 * head + attention);
  EXPECT_DOUBLE_EQ(model::training_operations(config, pass),
                   3 * 2 * 3 * blocks + 3 * 2 * 2 * head + 3.5 * attention);
}

class QuickstartPlan : public ::testing::Test {
 protected:
  QuickstartPlan()
      : output_(std::filesystem::path(::testing::TempDir()) / "infalign_plan_writes_nothing"),
        experiment_(experiment::load_experiment(
            kSource / "configs" / "quickstart.yaml",
            {"output=" + output_.string(), "prompts.max_train=20", "reward.epochs=1"})) {}

  static std::int64_t part(const Plan& plan, const std::string& stage, const std::string& what) {
    for (const auto& memory : plan.memory)
      for (const auto& size : memory.parts)
        if (memory.stage == stage && size.what == what) return size.bytes;
    ADD_FAILURE() << stage << " has no " << what;
    return 0;
  }

  std::filesystem::path output_;
  experiment::Experiment experiment_;
};

TEST_F(QuickstartPlan, KnowsTheModelsThoughOneIsYetToBeMade) {
  const auto plan = make_plan(experiment_, 1);
  ASSERT_EQ(plan.models.size(), 2u);
  for (const auto& model : plan.models)
    EXPECT_EQ(model.parameters, model::ParameterLayout(model.config).size());
  EXPECT_EQ(plan.models[0].role, "policy");
  EXPECT_FALSE(plan.models[0].made_by_run);
  EXPECT_EQ(plan.models[1].role, "reward");
  EXPECT_TRUE(plan.models[1].made_by_run);
  EXPECT_TRUE(plan.models[1].config.score_head);
  EXPECT_FALSE(std::filesystem::exists(output_));
}

TEST_F(QuickstartPlan, CountsTheWork) {
  const auto plan = make_plan(experiment_, 1);
  std::vector<std::string> stages;
  for (const auto& work : plan.work) stages.push_back(work.stage);
  EXPECT_THAT(stages, ElementsAre("reward", "calibrate", "align", "evaluate", "evaluate: calibration check"));
  const auto& align = plan.work[2];
  EXPECT_EQ(align.runs, 3);
  EXPECT_EQ(align.steps, 60);
  EXPECT_EQ(align.items, 64);
  EXPECT_EQ(align.samples, 64 * 16);
  EXPECT_EQ(align.micro_batches, 16);
  EXPECT_GT(align.tokens, 3.0 * 60 * 64 * 16 * 8);
  EXPECT_EQ(plan.work[1].items, 20);
  EXPECT_EQ(plan.work[1].micro_batches, 5);
}

TEST_F(QuickstartPlan, ShardsOnlyWhatIsSharded) {
  const auto one = make_plan(experiment_, 1), four = make_plan(experiment_, 4);
  const auto P = one.models[0].parameters;
  const std::string moments = "optimizer moments of the shard";
  EXPECT_EQ(part(one, "align", moments), 8 * P);
  EXPECT_NEAR(static_cast<double>(part(four, "align", moments)), 2.0 * static_cast<double>(P),
              8.0 * kernels::kSumBlock);
  EXPECT_EQ(part(one, "align", "parameters: policy"), 4 * P);
  for (const std::string same : {"parameters: policy", "activations of a training micro-batch"})
    EXPECT_EQ(part(one, "align", same), part(four, "align", same));
}

TEST_F(QuickstartPlan, AnAdapterTakesLittleBesideTheWeightsItStandsOn) {
  const auto whole = make_plan(experiment_, 1);
  for (auto& variant : experiment_.alignment.variants) variant.lora = {4, std::nullopt, {"q_proj"}};
  experiment_.reward->lora = {2, std::nullopt, {"all-linear"}};
  const auto adapters = make_plan(experiment_, 1);
  const auto& config = whole.models[0].config;
  const auto of_layer = 4 * (config.hidden_size + config.q_width());
  EXPECT_EQ(part(adapters, "align", "parameters: policy"), 4 * config.layers * of_layer);
  EXPECT_EQ(part(adapters, "align", "optimizer moments of the shard"), 8 * config.layers * of_layer);
  EXPECT_EQ(part(adapters, "align", "parameters: reference"), part(whole, "align", "parameters: reference"));
  EXPECT_LT(part(adapters, "reward", "gradients"), part(whole, "reward", "gradients") / 4);
  EXPECT_LT(adapters.work[2].operations, whole.work[2].operations) << "frozen weights have no gradient";
  experiment_.alignment.variants[0].lora = {};
  EXPECT_EQ(part(make_plan(experiment_, 1), "align", "parameters: policy"),
            part(whole, "align", "parameters: policy"))
      << "the largest variant counts";
}

TEST_F(QuickstartPlan, KnowsWhatIsComputedAgainAndWhatIsHeldInBfloat16) {
  const auto all = make_plan(experiment_, 1);
  experiment_.memory = {.recompute_activations = true, .reference = "bfloat16", .reward = "bfloat16"};
  const auto less = make_plan(experiment_, 1);
  const std::string activations = "activations of a training micro-batch";
  EXPECT_LT(part(less, "align", activations), part(all, "align", activations));
  EXPECT_LT(part(less, "reward", activations), part(all, "reward", activations));
  EXPECT_GT(less.work[2].operations, all.work[2].operations);
  const model::ParameterLayout layout(all.models[0].config);
  EXPECT_EQ(part(less, "align", "parameters: reference"), model::NarrowParameters::bytes(layout));
  EXPECT_LT(part(less, "align", "parameters: reward model"),
            part(all, "align", "parameters: reward model") * 6 / 10);
  EXPECT_EQ(part(less, "align", "parameters: policy"), part(all, "align", "parameters: policy"));
}

TEST_F(QuickstartPlan, EachStageOfShardingTakesLess) {
  for (const char* device : {"cpu", "cuda"}) {
    experiment_.device = device;
    std::vector<std::int64_t> bytes;
    for (experiment_.distributed.sharding = 0; experiment_.distributed.sharding <= 3;
         ++experiment_.distributed.sharding) {
      const auto plan = make_plan(experiment_, 4);
      ASSERT_NE(plan.largest(), nullptr);
      bytes.push_back(sum(plan.largest()->parts));
    }
    EXPECT_GT(bytes[0], bytes[1]) << device;
    EXPECT_GT(bytes[1], bytes[2]) << device;
    EXPECT_GT(bytes[2], bytes[3]) << device;
  }
}

TEST_F(QuickstartPlan, AGpuHasTwoLayersOfAGradientThatIsSharded) {
  experiment_.device = "cuda";
  experiment_.distributed.sharding = 2;
  const auto plan = make_plan(experiment_, 4);
  const model::ParameterLayout layout(plan.models[0].config);
  const auto layer = layout.layer(1).input_norm.weight - layout.layer(0).input_norm.weight;
  const auto around = layout.size() - layout.layers() * layer;  // a head that is the embedding is with it
  ASSERT_EQ(layout.head(), layout.embedding());
  EXPECT_EQ(part(plan, "align", "gradients"), 4 * (2 * layer + around));
}

TEST_F(QuickstartPlan, ShardedParametersOfAllModelsAreDivided) {
  experiment_.memory.reward = "bfloat16";
  experiment_.distributed.sharding = 3;
  const auto plan = make_plan(experiment_, 4), alone = make_plan(experiment_, 1);
  const model::ParameterLayout layout(plan.models[0].config), reward(plan.models[1].config);
  const auto share = [](const model::ParameterLayout& of) {
    return distributed::parameter_shares(of.size(), 4).front().size();
  };
  for (const std::string of : {"reference", "policy"})
    EXPECT_EQ(part(plan, "align", "parameters: " + of), 4 * share(layout)) << of;
  EXPECT_EQ(part(plan, "align", "parameters: reward model"),
            model::NarrowParameters::bytes(reward) - 2 * (reward.size() - share(reward)));
  EXPECT_EQ(part(plan, "align", "parameters: policy"), part(plan, "align", "parameters: reference"));
  EXPECT_EQ(part(plan, "align", "layers gathered and prepared"),
            model::GatheredParameters::bytes(plan.models[0].config, kernels::Use::kTraining,
                                             kernels::Precision::kFloat32));
  EXPECT_EQ(part(alone, "align", "parameters: policy"), 4 * layout.size()) << "one rank has it all";
  experiment_.device = "cuda";
  const auto on_gpu = make_plan(experiment_, 4);
  EXPECT_EQ(part(on_gpu, "align", "parameters: policy"), 4 * share(layout));
  EXPECT_EQ(part(on_gpu, "align", "layers gathered and prepared"),
            model::GatheredParameters::bytes(plan.models[0].config, kernels::Use::kTraining,
                                             kernels::Precision::kFloat32, kernels::Precision::kFloat32,
                                             kernels::Device::kCuda));
}

TEST_F(QuickstartPlan, EveryGroupHoldsACopyOfTheParameters) {
  experiment_.distributed.sharding = 3;
  const auto of_all = make_plan(experiment_, 8);
  experiment_.distributed.shard_ranks = 2;
  const auto in_pairs = make_plan(experiment_, 8);
  const model::ParameterLayout layout(in_pairs.models[0].config);
  EXPECT_EQ(part(in_pairs, "align", "parameters: policy"),
            4 * distributed::group_shares(layout.size(), 8, 2).front().size());
  EXPECT_EQ(part(in_pairs, "align", "optimizer moments of the shard"),
            part(of_all, "align", "optimizer moments of the shard"));
  EXPECT_THROW(make_plan(experiment_, 3), ConfigurationError);
}

TEST_F(QuickstartPlan, CountsEveryModelThatGivesRewards) {
  const std::filesystem::path model = kSource / "data/storyteller";
  experiment_.stages = {experiment::Stage::kCalibrate, experiment::Stage::kEvaluate};
  experiment_.reward.reset();
  experiment_.model.reward.models = {model};
  const auto one = make_plan(experiment_, 1);
  experiment_.model.reward.models = {model, model, model};
  experiment_.model.reranker.models = {model};
  experiment_.model.judge.command = {"program"};
  const auto plan = make_plan(experiment_, 1);
  std::vector<std::string> roles;
  for (const auto& described : plan.models) roles.push_back(described.role);
  EXPECT_THAT(roles, ElementsAre("policy", "reward 1", "reward 2", "reward 3", "reranker"));
  const auto P = plan.models[0].parameters;
  EXPECT_EQ(part(one, "calibrate", "parameters: reward model"), 4 * P);
  EXPECT_EQ(part(plan, "calibrate", "parameters: 3 x reward model"), 3 * 4 * P);
  EXPECT_EQ(part(plan, "calibrate", "parameters: reranker"), 4 * P);
  for (const std::string stage : {"calibrate", "evaluate"})
    EXPECT_EQ(part(plan, stage, "activations of scoring"), 4 * part(one, stage, "activations of scoring"));
  EXPECT_GT(part(one, "calibrate", "activations of scoring"), 0);
  experiment_.model.reward = {};
  experiment_.model.reranker = {};
  experiment_.model.reward.command = {"program"};
  const auto none = make_plan(experiment_, 1);
  const auto of_one = one.work[0].operations - none.work[0].operations;
  EXPECT_GT(of_one, 0);
  EXPECT_DOUBLE_EQ(plan.work[0].operations - none.work[0].operations, 4 * of_one);
  EXPECT_THAT(plan_comments(experiment_, none, Host{.operations_per_second = 1e9}),
              ::testing::HasSubstr(
                  "#   judge    by a program, program: its memory and time are not in what follows\n"));
}

TEST_F(QuickstartPlan, AddsUpInTextAndJson) {
  const auto plan = make_plan(experiment_, 2);
  Host host;
  host.operations_per_second = 1e9;
  host.program_bytes = 1000;
  host.mpi_bytes = 10;
  ASSERT_NE(plan.largest(), nullptr);
  for (const auto& memory : plan.memory) EXPECT_LE(sum(memory.parts), sum(plan.largest()->parts));
  EXPECT_EQ(host.peak(plan), 1010 + sum(plan.largest()->parts));

  const auto json = plan_json(experiment_, plan, host);
  EXPECT_EQ(json["memory"]["peak"], host.peak(plan));
  EXPECT_EQ(json["configuration"], experiment_.yaml);
  double seconds = 0;
  for (const auto& stage : json["cost"]["stages"]) seconds += stage["seconds"].get<double>();
  EXPECT_DOUBLE_EQ(json["cost"]["seconds"].get<double>(), seconds);

  std::istringstream text(plan_comments(experiment_, plan, host));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  EXPECT_THAT(lines, Each(StartsWith("#")));
}

TEST_F(QuickstartPlan, TellsAGpusMemoryApartFromTheCpus) {
  const auto on_cpu = make_plan(experiment_, 2);
  experiment_.device = "cuda";
  const auto on_gpu = make_plan(experiment_, 2);
  for (const auto& stage : on_gpu.memory) {
    const auto& same = on_cpu.memory[static_cast<std::size_t>(&stage - on_gpu.memory.data())];
    ASSERT_EQ(stage.stage, same.stage);
    // Weights are read as they lie, gradients are not sent by MPI, a pool takes scratch back, and nothing
    // else is gained or lost but what passes through the CPU's memory on its way.
    std::int64_t expected = sum(same.parts);
    for (const auto& size : same.parts)
      if (size.what == "matrices prepared for products" || size.what == "head scratch kept from before" ||
          size.what.starts_with("MPI"))
        expected -= size.bytes;
    std::int64_t found = sum(stage.parts);
    for (const auto& size : stage.on_cpu)
      if (!size.what.starts_with("weights on")) found += size.bytes;
    EXPECT_EQ(found, expected) << stage.stage;
    EXPECT_GE(stage.on_cpu.size(), 1u) << stage.stage;
  }
  EXPECT_EQ(part(on_gpu, "align", "parameters: policy"), part(on_cpu, "align", "parameters: policy"));

  const Host host{.program_bytes = 1000, .mpi_bytes = 10};
  const auto text = plan_comments(experiment_, on_gpu, host);
  EXPECT_THAT(text, ::testing::HasSubstr("# Memory of a GPU, on 2 ranks: "));
  EXPECT_THAT(text, ::testing::HasSubstr("--gflops tells the time"));
  const auto json = plan_json(experiment_, on_gpu, host);
  EXPECT_EQ(json["gpu_memory"]["peak"], sum(on_gpu.largest()->parts));
  EXPECT_LT(json["memory"]["peak"].get<std::int64_t>(), 1010 + sum(on_cpu.largest()->parts));
}

}  // namespace
}  // namespace infalign::stages
