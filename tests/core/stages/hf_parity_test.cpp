// Tiny models of every family against what the transformers library gets from them in float64: logits,
// log-probabilities, losses, every gradient, optimizer steps, rewards, greedy ids. All folders that are there
// are tried, with the bars that stand in their README.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/model/generation.h"
#include "core/stages/model_folder.h"
#include "core/stages/model_weights.h"
#include "core/stages/pair_loss.h"
#include "core/storage/durable.h"
#include "core/storage/support.h"
#include "kernels/adamw/adamw.h"
#include "support/tiny_safetensors.h"

namespace infalign::stages {
namespace {

namespace fs = std::filesystem;
using model::Activations;
using model::Keep;
using model::PackedBatch;
using model::ParameterView;
using Tokens = std::vector<std::int32_t>;

const kernels::Stream kStream;

/// $INFALIGN_PARITY, or beside the repository. It may not exist.
fs::path parity_folder() {
  if (const char* set = std::getenv("INFALIGN_PARITY")) return set;
  return data_folder() / "hf-parity";
}

std::vector<fs::path> folders() {
  std::vector<fs::path> found;
  if (!fs::is_directory(parity_folder())) return found;
  for (const auto& entry : fs::directory_iterator(parity_folder()))
    if (fs::exists(entry.path() / "golden.json") && fs::exists(entry.path() / "config.json"))
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

/// One folder: its model, and what is expected of it.
struct StoredExample {
  explicit StoredExample(const fs::path& path)
      : folder(path), transformer(read_model_config(path)), parameters(size()) {
    type = read_weights(path, transformer, Require::kAll, parameters);
    golden = read_json(path / "golden.json");
    fs::path golden_folder = path;
    if (golden.contains("same_as")) {
      golden_folder = path.parent_path() / golden.at("same_as").get<std::string>();
      golden = read_json(golden_folder / "golden.json");
    }
    tensors = read_safetensors(golden_folder / "golden.safetensors");
    sequences = golden.at("input_ids").get<std::vector<Tokens>>();
    for (const Tokens& sequence : sequences) {
      const std::int32_t segment = batch.add(sequence);
      targets.add_sequence(batch, segment);
      last_rows.push_back(static_cast<std::int32_t>(batch.size()) - 1);
    }
  }

  std::size_t size() const { return static_cast<std::size_t>(transformer.layout().size()); }
  bool rewards() const { return transformer.config().score_head; }
  model::Weights weights() const { return transformer.prepare(kStream, parameters, kernels::Use::kTraining); }

  /// The golden tensor `kind`.name in the layout's shape.
  std::vector<float> expected(const std::string& kind, const ParameterView& view) const {
    const auto found = tensors.find(kind + "." + view.name);
    if (found == tensors.end()) throw std::runtime_error("no golden " + kind + "." + view.name);
    if (!view.transposed) return found->second.values;
    const auto rows = static_cast<std::size_t>(view.shape[0]),
               columns = static_cast<std::size_t>(view.shape[1]);
    std::vector<float> values(rows * columns);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < columns; ++j) values[i * columns + j] = found->second.values[j * rows + i];
    return values;
  }

  fs::path folder;
  model::Transformer transformer;
  std::vector<float> parameters;
  storage::DataType type{};
  nlohmann::json golden;
  std::map<std::string, TinyTensor> tensors;
  std::vector<Tokens> sequences;
  PackedBatch batch;
  model::Targets targets;
  std::vector<std::int32_t> last_rows;
};

/// Calls body(example) for every folder with a model of that kind; skips the test where there is none.
void for_each_example(bool rewards, const std::function<void(StoredExample&)>& body) {
  int tried = 0;
  for (const fs::path& folder : folders()) {
    SCOPED_TRACE(folder.string());
    StoredExample example(folder);
    if (example.rewards() != rewards) continue;
    body(example);
    ++tried;
  }
  if (tried == 0)
    GTEST_SKIP() << "no models at " << parity_folder() << "; set INFALIGN_PARITY to the folder of hf-parity";
}

/// The loss on the example's batch at its parameters, and its gradient.
struct Loss {
  double value = 0;
  std::vector<float> gradient, values;  // values: log-probabilities or rewards
};

Loss language_loss(const StoredExample& e) {
  Loss loss{.value = 0, .gradient = std::vector<float>(e.size()), .values = {}};
  Activations activations;
  model::TokenLogProbabilities head;
  const auto weights = e.weights();
  const auto n = static_cast<std::size_t>(e.targets.size());
  const std::vector<float> d_values(n, -1.0f / static_cast<float>(n));
  std::vector<float> d_hidden(static_cast<std::size_t>(e.batch.size() * e.transformer.config().hidden_size));
  e.transformer.forward(kStream, weights, e.batch, Keep::kEverything, activations);
  head.forward_backward(kStream, e.transformer, weights, activations, e.targets, 1, d_values, d_hidden,
                        loss.gradient);
  e.transformer.backward(kStream, weights, e.batch, activations, d_hidden, loss.gradient);
  loss.values.assign(head.values().begin(), head.values().end());
  for (const float value : loss.values) loss.value -= double{value} / static_cast<double>(n);
  return loss;
}

/// The rewards' pairs as the reward stage orders them: chosen, rejected, chosen, rejected, ...
std::vector<std::size_t> pairs_of(const StoredExample& e) {
  std::vector<std::size_t> order;
  for (const auto& [chosen, rejected] :
       e.golden.at("pairs").get<std::vector<std::pair<std::size_t, std::size_t>>>())
    order.insert(order.end(), {chosen, rejected});
  return order;
}

/// The reward stage's loss on the pairs, each with its margin (none: 0).
Loss reward_loss(const StoredExample& e, std::vector<double> margins = {}, double centre = 0) {
  Loss loss{.value = 0, .gradient = std::vector<float>(e.size()), .values = {}};
  Activations activations;
  const auto weights = e.weights();
  std::vector<float> d_hidden(static_cast<std::size_t>(e.batch.size() * e.transformer.config().hidden_size));
  e.transformer.forward(kStream, weights, e.batch, Keep::kEverything, activations);
  loss.values = model::score_rows({}, e.transformer, weights, activations, e.last_rows);
  const auto order = pairs_of(e);
  std::vector<float> rewards;
  for (const auto i : order) rewards.push_back(loss.values[i]);
  margins.resize(order.size() / 2);
  const PairLoss pair_loss{margins, centre};
  const auto n = static_cast<double>(margins.size());
  loss.value = pair_loss.sums(rewards).loss / n;
  const auto d_pairs = pair_loss.gradient(rewards, n);
  std::vector<float> d_reward(loss.values.size());
  for (std::size_t i = 0; i < order.size(); ++i) d_reward[order[i]] += d_pairs[i];
  model::score_rows_backward({}, e.transformer, weights, activations, e.last_rows, d_reward, d_hidden,
                             loss.gradient);
  e.transformer.backward(kStream, weights, e.batch, activations, d_hidden, loss.gradient);
  return loss;
}

Loss loss_of(const StoredExample& e) { return e.rewards() ? reward_loss(e) : language_loss(e); }

/// The bar: 1e-5, and 1e-5 of the tensor's largest entry. Where the true gradient of a whole tensor is zero
/// (the keys' bias of a layer without rotary positions) float32 leaves noise.
void expect_gradient(const StoredExample& e, const std::vector<float>& gradient) {
  for (const ParameterView& view : e.transformer.layout().views()) {
    const auto expected = e.expected("grad", view);
    ASSERT_EQ(std::ssize(expected), view.size) << view.name;
    float largest = 0;
    for (const float value : expected) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(gradient[static_cast<std::size_t>(view.offset) + i], expected[i],
                  std::max(1e-5 * std::min(1.0f, largest), 1e-7))
          << view.name << " at " << i;
  }
}

void expect_first_step(const StoredExample& e) {
  const double rate = e.golden.at("optimizer").at("lr");
  for (const ParameterView& view : e.transformer.layout().views()) {
    const auto expected = e.expected("step1", view), gradient = e.expected("grad", view);
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(e.parameters[static_cast<std::size_t>(view.offset) + i], expected[i],
                  std::abs(gradient[i]) > 1e-5f ? 1e-6 : rate * 1.001)
          << view.name << " at " << i;
  }
}

/// Runs the optimizer's steps, with every loss and gradient norm on the way.
void expect_training(StoredExample& e) {
  const auto& optimizer = e.golden.at("optimizer");
  const auto losses = e.golden.at("losses").get<std::vector<double>>();
  const auto norms = e.golden.at("grad_norms").get<std::vector<double>>();
  std::vector<float> first(e.size()), second(e.size());
  for (std::size_t step = 0; step < norms.size(); ++step) {
    const Loss loss = loss_of(e);
    EXPECT_NEAR(loss.value, losses[step], 2e-5) << "at step " << step;
    double squares = 0;
    for (const float g : loss.gradient) squares += double{g} * double{g};
    const double norm = std::sqrt(squares);
    EXPECT_NEAR(norm, norms[step], 1e-5 * norms[step]) << "at step " << step;
    if (step == 0) expect_gradient(e, loss.gradient);
    const double clip = optimizer.at("clip_grad_norm");
    for (const ParameterView& view : e.transformer.layout().views()) {
      const kernels::AdamWStep hyper{
          .learning_rate = optimizer.at("lr"),
          .beta1 = optimizer.at("betas")[0],
          .beta2 = optimizer.at("betas")[1],
          .epsilon = optimizer.at("eps"),
          .weight_decay = view.decayed() ? optimizer.at("weight_decay").get<float>() : 0.0f,
          .gradient_scale = static_cast<float>(std::min(1.0, clip / (norm + 1e-6))),
          .step = static_cast<std::int64_t>(step) + 1};
      kernels::adamw(kStream, hyper, view.size, loss.gradient.data() + view.offset,
                     e.parameters.data() + view.offset, first.data() + view.offset,
                     second.data() + view.offset);
    }
    if (step == 0) expect_first_step(e);
  }
  EXPECT_NEAR(loss_of(e).value, losses.back(), 2e-5) << "at the end";
}

/// [V] logits of one row of hidden states, in float64.
std::vector<double> logits(const StoredExample& e, const float* hidden) {
  const model::ModelConfig& config = e.transformer.config();
  const float* weight = e.parameters.data() + e.transformer.layout().head();
  const double cap = config.logit_softcap;
  std::vector<double> result;
  for (std::int64_t v = 0; v < config.vocab_size; ++v) {
    double sum = 0;
    for (std::int64_t c = 0; c < config.hidden_size; ++c)
      sum += double{weight[v * config.hidden_size + c]} * double{hidden[c]};
    result.push_back(cap > 0 ? cap * std::tanh(sum / cap) : sum);
  }
  return result;
}

TEST(HfParity, LogitsAndLogProbabilities) {
  for_each_example(false, [](StoredExample& e) {
    const auto& stored = e.tensors.at("logits");
    const auto longest = static_cast<std::size_t>(stored.shape[1]),
               V = static_cast<std::size_t>(stored.shape[2]);
    const Loss loss = language_loss(e);
    EXPECT_NEAR(loss.value, e.golden.at("mean_nll").get<double>(), 2e-5);
    Activations activations;
    e.transformer.forward(kStream, e.weights(), e.batch, Keep::kNothing, activations);
    std::size_t target = 0;
    for (std::size_t s = 0; s < e.sequences.size(); ++s) {
      for (std::size_t t = 0; t < e.sequences[s].size(); ++t) {
        const std::int64_t row = e.batch.segments[s].begin + static_cast<std::int64_t>(t);
        const auto actual = logits(e, activations.hidden() + row * e.transformer.config().hidden_size);
        ASSERT_EQ(actual.size(), V);
        for (std::size_t v = 0; v < V; ++v)
          ASSERT_NEAR(actual[v], stored.values[(s * longest + t) * V + v], 1e-4);
        if (t + 1 == e.sequences[s].size()) continue;
        ASSERT_NEAR(loss.values[target++], e.tensors.at("logprobs").values[s * (longest - 1) + t], 5e-5);
      }
    }
  });
}

TEST(HfParity, LanguageModelsTrain) { for_each_example(false, expect_training); }

TEST(HfParity, GreedyIds) {
  for_each_example(false, [](StoredExample& e) {
    for (std::size_t s = 0; s < e.sequences.size(); ++s) {
      const auto expected = e.golden.at("greedy")[s].at("new_ids").get<Tokens>();
      const model::SamplingSettings settings{
          .greedy = true, .max_new_tokens = std::ssize(expected), .stop_tokens = {}};
      const auto responses = model::Generator(e.transformer)
                                 .generate(kStream, e.weights(),
                                           std::vector<model::Prompt>{{e.sequences[s], 0}}, 1, settings, {});
      EXPECT_EQ(responses[0][0].tokens, expected) << "sequence " << s;
    }
  });
}

TEST(HfParity, Rewards) {
  for_each_example(true, [](StoredExample& e) {
    Activations activations;
    const auto rewards = e.transformer.score(kStream, e.weights(), e.batch, e.last_rows, activations);
    const auto& stored = e.tensors.at("rewards").values;
    ASSERT_EQ(rewards.size(), stored.size());
    for (std::size_t i = 0; i < stored.size(); ++i) EXPECT_NEAR(rewards[i], stored[i], 1e-5);
    EXPECT_NEAR(reward_loss(e).value, e.golden.at("bradley_terry_loss").get<double>(), 2e-5);
    const auto margins = e.golden.at("margin").get<std::vector<double>>();
    EXPECT_NEAR(reward_loss(e, margins).value, e.golden.at("bradley_terry_loss_with_margin").get<double>(),
                2e-5);
    const auto centre = e.golden.at("center_rewards_coefficient").get<double>();
    EXPECT_NEAR(reward_loss(e, {}, centre).value, e.golden.at("bradley_terry_loss_centered").get<double>(),
                2e-5);
  });
}

TEST(HfParity, RewardModelsTrain) { for_each_example(true, expect_training); }

/// Every tensor that counts, bit for bit and under its own name but for GPT-2's older ones; all other files.
TEST(HfParity, ARoundTripWithoutTrainingIsBitForBit) {
  const storage::TemporaryFolder scratch;
  for (const bool rewards : {false, true})
    for_each_example(rewards, [&](StoredExample& e) {
      const fs::path copy = scratch.path() / e.folder.filename();
      save_model_folder(e.folder, copy, e.transformer, values_in(e.parameters), e.type);
      EXPECT_EQ(storage::read_file(copy / "config.json"), storage::read_file(e.folder / "config.json"));
      const auto before = storage::SafetensorsReader::open_folder(e.folder);
      const auto after = storage::SafetensorsReader::open_folder(copy);
      EXPECT_EQ(std::ssize(after.tensors()), std::ssize(e.transformer.layout().views()));
      for (const auto& [name, tensor] : after.tensors()) {
        auto found = before.tensors().find(name);
        if (found == before.tensors().end() && name.starts_with("transformer."))
          found = before.tensors().find(name.substr(std::string("transformer.").size()));
        ASSERT_NE(found, before.tensors().end()) << name;
        EXPECT_EQ(tensor.shape, found->second.shape) << name;
        EXPECT_EQ(tensor.type, found->second.type) << name;
        EXPECT_TRUE(std::ranges::equal(tensor.data, found->second.data)) << name;
      }
    });
}

}  // namespace
}  // namespace infalign::stages
