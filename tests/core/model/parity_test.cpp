// Published numbers: a truly pretrained model against the reference implementation's log-likelihoods and
// greedy text, and tiny models of the transformers library against its float64 logits, gradients and rewards.
// The data stand beside the repository; without them these tests are skipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "core/model/generation.h"
#include "core/model/test_models.h"
#include "core/model/transformer.h"
#include "support/tiny_safetensors.h"

namespace infalign::model {
namespace {

using infalign::testing::data_folder;
using infalign::testing::read_json;
using infalign::testing::read_safetensors;
using testing::load_model;
using testing::Model;
using Tokens = std::vector<std::int32_t>;

const kernels::Stream kStream;

#define SKIP_WITHOUT(folder)                                                                   \
  if (!std::filesystem::exists(folder)) {                                                      \
    GTEST_SKIP() << "no test data at " << (folder) << "; set INFALIGN_DATA to where they are"; \
  }

/// [V] logits of one row of hidden states, in float64.
std::vector<double> logits(const Model& model, const float* hidden) {
  const ModelConfig& config = model.transformer.config();
  const float* weight = model.parameters.data() + model.transformer.layout().head();
  std::vector<double> result;
  for (std::int64_t v = 0; v < config.vocab_size; ++v) {
    double sum = 0;
    for (std::int64_t c = 0; c < config.hidden_size; ++c) {
      sum += double{weight[v * config.hidden_size + c]} * double{hidden[c]};
    }
    result.push_back(sum);
  }
  return result;
}

Tokens greedy(const Model& model, const Tokens& prompt, std::int64_t new_tokens) {
  const SamplingSettings settings{.greedy = true, .max_new_tokens = new_tokens, .stop_tokens = {}};
  return Generator(model.transformer)
      .generate(kStream, model.weights(), std::vector<Prompt>{{prompt, 0}}, 1, settings, {})[0][0]
      .tokens;
}

/// Log-probabilities of every token of each sequence after its first, all in one batch.
std::vector<float> sequence_log_probabilities(const Model& model, const std::vector<Tokens>& sequences,
                                              float temperature = 1) {
  PackedBatch batch;
  Targets targets;
  for (const Tokens& sequence : sequences) targets.add_sequence(batch, batch.add(sequence));
  Activations activations;
  TokenLogProbabilities head;
  model.transformer.forward(kStream, model.weights(), batch, Keep::kNothing, activations);
  head.forward(kStream, model.transformer, model.weights(), activations, targets, temperature);
  return {head.values().begin(), head.values().end()};
}

/// The bar for gradients: 1e-5, and 1e-5 of the tensor's largest entry.
void expect_gradients(const Model& model, const std::vector<float>& gradient,
                      const std::map<std::string, infalign::testing::TinyTensor>& golden) {
  for (const ParameterView& view : model.transformer.layout().views()) {
    const auto& expected = golden.at("grad." + view.name).values;
    float largest = 0;
    for (const float value : expected) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(gradient[static_cast<std::size_t>(view.offset) + i], expected[i],
                  1e-5 * std::min(1.0f, largest))
          << view.name << " at " << i;
    }
  }
}

TEST(Stories260K, LogLikelihoodsAndLogitsAreTheReferences) {
  SKIP_WITHOUT(data_folder() / "stories260K-hf");
  const Model model = load_model(data_folder() / "stories260K-hf");
  const auto golden = read_json(data_folder() / "stories260K" / "golden.json");
  ASSERT_EQ(golden.at("cases").size(), 8u);
  for (const auto& example : golden.at("cases")) {
    const Tokens ids = example.at("ids");
    const auto values = sequence_log_probabilities(model, {ids});
    const auto nll = example.at("nll").get<std::vector<double>>();
    ASSERT_EQ(values.size(), nll.size());
    for (std::size_t i = 0; i < nll.size(); ++i) EXPECT_NEAR(-values[i], nll[i], 2e-5);

    PackedBatch batch;
    batch.add(ids);
    Activations activations;
    model.transformer.forward(kStream, model.weights(), batch, Keep::kNothing, activations);
    const auto next = logits(model, activations.hidden() + (batch.size() - 1) * 64);
    EXPECT_EQ(std::max_element(next.begin(), next.end()) - next.begin(), example.at("next_argmax"));
    const auto first = example.at("next_logits_0_7").get<std::vector<double>>();
    for (std::size_t v = 0; v < first.size(); ++v) EXPECT_NEAR(next[v], first[v], 1e-4);
  }
}

TEST(Stories260K, TellsTheReferencesStory) {
  SKIP_WITHOUT(data_folder() / "stories260K-hf");
  const Model model = load_model(data_folder() / "stories260K-hf");
  const Tokens story = read_json(data_folder() / "stories260K" / "golden.json").at("greedy").at("ids");
  ASSERT_EQ(story.size(), 256u);
  const Tokens continuation = greedy(model, {story[0]}, 255);
  EXPECT_EQ(continuation, Tokens(story.begin() + 1, story.end()));
}

/// Over whole stories the two differ by the rounding of differently ordered sums: typically far below 1e-5,
/// rarely more than that.
TEST(Stories260K, SamplerAndTrainerAgree) {
  SKIP_WITHOUT(data_folder() / "stories260K-hf");
  const Model model = load_model(data_folder() / "stories260K-hf");
  const std::vector<Prompt> prompts = {{{1, 403, 407, 261, 378}, 1}, {{1}, 2}};
  for (const float temperature : {1.0f, 0.7f}) {
    const SamplingSettings settings{.temperature = temperature, .max_new_tokens = 200, .stop_tokens = {1}};
    const auto responses = Generator(model.transformer)
                               .generate(kStream, model.weights(), prompts, 3, settings,
                                         {.seed = 5, .purpose = kernels::Purpose::kPolicy});
    double squares = 0, tokens = 0;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      for (const Response& response : responses[p]) {
        Tokens whole = prompts[p].tokens;
        whole.insert(whole.end(), response.tokens.begin(), response.tokens.end());
        const auto trained = sequence_log_probabilities(model, {whole}, temperature);
        const auto trained_at_1 = sequence_log_probabilities(model, {whole});
        for (std::size_t i = 0; i < response.tokens.size(); ++i) {
          const std::size_t at = prompts[p].tokens.size() - 1 + i;
          const double gap = response.log_probabilities[i] - trained[at];
          const double gap_at_1 = response.log_probabilities_at_1[i] - trained_at_1[at];
          ASSERT_LT(std::max(std::abs(gap), std::abs(gap_at_1)), 5e-5);
          squares += (gap * gap + gap_at_1 * gap_at_1) / 2;
          ++tokens;
        }
      }
    }
    EXPECT_GT(tokens, 500);
    EXPECT_LT(std::sqrt(squares / tokens), 5e-6);
  }
}

TEST(HfParity, LlamaLogitsGradientsAndGreedyIds) {
  const auto folder = data_folder() / "hf-parity" / "llama-mha-tied";
  SKIP_WITHOUT(folder);
  const Model model = load_model(folder);
  const auto golden = read_json(folder / "golden.json");
  const auto tensors = read_safetensors(folder / "golden.safetensors");
  const auto sequences = golden.at("input_ids").get<std::vector<Tokens>>();
  const auto longest = static_cast<std::size_t>(tensors.at("logits").shape[1]);
  const auto V = static_cast<std::size_t>(model.transformer.config().vocab_size);

  PackedBatch batch;
  Targets targets;
  for (const Tokens& sequence : sequences) targets.add_sequence(batch, batch.add(sequence));
  Activations activations;
  TokenLogProbabilities head;
  model.transformer.forward(kStream, model.weights(), batch, Keep::kEverything, activations);
  head.forward(kStream, model.transformer, model.weights(), activations, targets, 1);

  double nll = 0;
  std::size_t target = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    for (std::size_t t = 0; t < sequences[s].size(); ++t) {
      const std::size_t row = static_cast<std::size_t>(batch.segments[s].begin) + t;
      const auto actual = logits(model, activations.hidden() + row * 32);
      for (std::size_t v = 0; v < V; ++v) {
        ASSERT_NEAR(actual[v], tensors.at("logits").values[(s * longest + t) * V + v], 1e-4);
      }
      if (t + 1 == sequences[s].size()) continue;
      ASSERT_NEAR(head.values()[target], tensors.at("logprobs").values[s * (longest - 1) + t], 5e-5);
      nll -= double{head.values()[target++]};
    }
  }
  EXPECT_NEAR(nll / static_cast<double>(target), golden.at("mean_nll").get<double>(), 2e-5);

  const std::vector<float> d_values(target, -1.0f / static_cast<float>(target));
  std::vector<float> d_hidden(static_cast<std::size_t>(batch.size()) * 32), gradient(model.parameters.size());
  head.forward_backward(kStream, model.transformer, model.weights(), activations, targets, 1, d_values,
                        d_hidden, gradient);
  model.transformer.backward(kStream, model.weights(), batch, activations, d_hidden, gradient);
  expect_gradients(model, gradient, tensors);

  for (std::size_t s = 0; s < sequences.size(); ++s) {
    EXPECT_EQ(greedy(model, sequences[s], 12), golden.at("greedy")[s].at("new_ids").get<Tokens>());
  }
}

TEST(HfParity, RewardsAndBradleyTerryGradients) {
  const auto folder = data_folder() / "hf-parity" / "llama-reward";
  SKIP_WITHOUT(folder);
  const Model model = load_model(folder);
  const auto golden = read_json(folder / "golden.json");
  const auto tensors = read_safetensors(folder / "golden.safetensors");
  PackedBatch batch;
  std::vector<std::int32_t> last_rows;
  for (const Tokens& sequence : golden.at("input_ids").get<std::vector<Tokens>>()) {
    batch.add(sequence);
    last_rows.push_back(static_cast<std::int32_t>(batch.size()) - 1);
  }
  Activations activations;
  model.transformer.forward(kStream, model.weights(), batch, Keep::kEverything, activations);
  const auto rewards = score_rows(model.transformer, model.weights(), activations, last_rows);
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    EXPECT_NEAR(rewards[i], tensors.at("rewards").values[i], 1e-5);
  }

  // The loss is the mean of -log sigmoid(chosen - rejected).
  std::vector<float> d_reward(rewards.size());
  double loss = 0;
  const auto pairs = golden.at("pairs").get<std::vector<std::pair<std::size_t, std::size_t>>>();
  for (const auto& [chosen, rejected] : pairs) {
    const double margin = double{rewards[chosen]} - double{rewards[rejected]};
    const auto slope = static_cast<float>(1 / (1 + std::exp(margin)) / static_cast<double>(pairs.size()));
    loss += std::log1p(std::exp(-margin)) / static_cast<double>(pairs.size());
    d_reward[chosen] -= slope;
    d_reward[rejected] += slope;
  }
  EXPECT_NEAR(loss, golden.at("bradley_terry_loss").get<double>(), 2e-5);

  std::vector<float> d_hidden(static_cast<std::size_t>(batch.size()) * 32), gradient(model.parameters.size());
  score_rows_backward(model.transformer, model.weights(), activations, last_rows, d_reward, d_hidden,
                      gradient);
  model.transformer.backward(kStream, model.weights(), batch, activations, d_hidden, gradient);
  expect_gradients(model, gradient, tensors);
}

TEST(HfParity, OtherFamiliesAreRefusedByTheirFeature) {
  SKIP_WITHOUT(data_folder() / "hf-parity");
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"llama-gqa-llama3", "llama3"},
      {"llama-bfloat16", "attention_bias"},
      {"mistral-sliding", "MistralForCausalLM"},
      {"qwen2-bias-tied", "Qwen2ForCausalLM"},
      {"gpt2", "GPT2LMHeadModel"},
      {"gemma2-softcap", "Gemma2ForCausalLM"}};
  for (const auto& [name, feature] : expected) {
    const auto path = data_folder() / "hf-parity" / name / "config.json";
    try {
      ModelConfig::from_json(read_json(path), path.string());
      ADD_FAILURE() << name << " was accepted";
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(feature));
      EXPECT_THAT(error.what(), ::testing::HasSubstr(path.string()));
    }
  }
}

}  // namespace
}  // namespace infalign::model
