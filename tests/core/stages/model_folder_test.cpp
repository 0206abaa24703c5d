// Reward models as folders: what is written for others to load, and what is read back.
#include "core/stages/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/stages/closing_token.h"
#include "core/stages/inference.h"
#include "core/stages/reward_source.h"
#include "core/stages/storyteller.h"
#include "core/storage/durable.h"
#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class RewardFolder : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::copy(kStoryteller, folder_ / "language"); }

  json read(const std::string& name) const { return json::parse(storage::read_file(folder_ / name)); }
  void remove_key(const std::string& file, const std::string& key) const {
    auto content = read(file);
    content.erase(key);
    std::ofstream(folder_ / file) << content.dump();
  }

  /// A reward model with weights drawn from `seed`, in the folder `name`.
  std::filesystem::path make_reward_model(const std::string& name, std::uint64_t seed) const {
    const auto model = load_as_reward_model(folder_ / "language", seed);
    save_model_folder(folder_ / "language", folder_ / name, model.transformer,
                      values_in(model.parameters.span()), model.data_type);
    return folder_ / name;
  }

  std::vector<float> score(RewardSource& source) const {
    const auto tokenizer = text::Tokenizer::load(kStoryteller);
    std::vector<std::vector<std::int32_t>> ids;
    const std::vector<std::string> texts = {" He was happy.", " He was very sad", ""};
    for (const auto& text : texts) ids.push_back(tokenizer.encode_continuation(text));
    return source.score({}, tokenizer.encode(kPrompt), kPrompt, ids, texts);
  }

  const std::string kPrompt = "One day, there was a dog.";
  const ScratchFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path();
};

TEST_F(RewardFolder, SaysWhatOthersNeedToLoadIt) {
  make_reward_model("reward", 1);
  const auto config = read("reward/config.json");
  EXPECT_EQ(config["architectures"], json({"LlamaForSequenceClassification"}));
  EXPECT_EQ(config["num_labels"], 1);
  EXPECT_EQ(config["id2label"], json({{"0", "LABEL_0"}}));
  EXPECT_EQ(config["label2id"], json({{"LABEL_0", 0}}));
  EXPECT_EQ(config["pad_token_id"], 0) << "as its language model";
  EXPECT_FALSE(std::filesystem::exists(folder_ / "reward/generation_config.json")) << "it generates nothing";
}

TEST_F(RewardFolder, PadsAsItsTokenizerDoesOrElseWithTheEndOfASequence) {
  remove_key("language/config.json", "pad_token_id");
  remove_key("language/generation_config.json", "pad_token_id");
  make_reward_model("pads", 1);
  EXPECT_EQ(read("pads/config.json")["pad_token_id"], 0) << "the tokenizer's <unk>";
  remove_key("language/tokenizer_config.json", "pad_token");
  make_reward_model("ends", 1);
  EXPECT_EQ(read("ends/config.json")["pad_token_id"], 2) << "</s>, and not whatever token is the first";
}

TEST_F(RewardFolder, ScoresAsBeforeItWasWritten) {
  const auto folder = make_reward_model("reward", 1);
  RewardModel written(folder, kStoryteller);
  EXPECT_FALSE(written.reads_text()) << "the policy's tokenizer";
  const auto rewards = score(written);
  ASSERT_EQ(rewards.size(), 3u);
  EXPECT_NE(rewards[0], rewards[1]);
  const auto again = load_as_reward_model(folder, 99);
  save_model_folder(folder, folder_ / "copy", again.transformer, values_in(again.parameters.span()),
                    again.data_type);
  RewardModel copy(folder_ / "copy", kStoryteller);
  EXPECT_EQ(score(copy), rewards);
  EXPECT_EQ(copy.fingerprint(), written.fingerprint());
}

/// The lowest layers of a backbone give the hidden states that the whole one has behind them.
TEST_F(RewardFolder, MayGrowFromTheFirstLayersAlone) {
  const auto shallow = load_as_reward_model(folder_ / "language", 1, 2);
  EXPECT_EQ(shallow.transformer.config().layers, 2);
  const auto whole = load_as_reward_model(folder_ / "language", 1);
  ASSERT_EQ(whole.transformer.config().layers, 3);
  for (const auto& view : shallow.transformer.layout().views()) {
    if (view.name == "score.weight") continue;
    const auto twin =
        std::ranges::find(whole.transformer.layout().views(), view.name, &model::ParameterView::name);
    const auto part = [&](const auto& model, std::int64_t offset) {
      return model.parameters.span().subspan(static_cast<std::size_t>(offset),
                                             static_cast<std::size_t>(view.size));
    };
    EXPECT_TRUE(std::ranges::equal(part(shallow, view.offset), part(whole, twin->offset))) << view.name;
  }
  save_model_folder(folder_ / "language", folder_ / "shallow", shallow.transformer,
                    values_in(shallow.parameters.span()), shallow.data_type);
  EXPECT_EQ(read("shallow/config.json")["num_hidden_layers"], 2);
  EXPECT_EQ(ModelFolder::load(folder_ / "shallow").transformer.config().layers, 2);
  EXPECT_THAT([&] { load_as_reward_model(folder_ / "language", 1, 4); },
              testing::ThrowsMessage<InputError>(HasSubstr("the model has 3 layers, not 4")));
}

TEST_F(RewardFolder, MayBeReadAtAStopTokenBehindEveryResponse) {
  const auto folder = make_reward_model("reward", 1);
  RewardModel last(folder, kStoryteller), told(folder, kStoryteller, "stop_token");
  std::vector<std::vector<std::int32_t>> closed;
  const auto tokenizer = text::Tokenizer::load(kStoryteller);
  for (const std::string text : {" He was happy.", " He was very sad", ""}) {
    closed.push_back(tokenizer.encode_continuation(text));
    closed.back().push_back(*tokenizer.special().eos);
  }
  const auto expected = last.score({}, tokenizer.encode(kPrompt), kPrompt, closed, {});
  EXPECT_EQ(score(told), expected);
  EXPECT_NE(told.fingerprint(), last.fingerprint());

  write_read_at(folder, "stop_token");
  RewardModel says_so(folder, kStoryteller);
  EXPECT_EQ(score(says_so), expected);
  RewardModel overruled(folder, kStoryteller, "last_token");
  EXPECT_EQ(score(overruled), score(last));
  write_read_at(folder, "last_token");
  RewardModel again(folder, kStoryteller);
  EXPECT_EQ(score(again), score(last));
}

TEST_F(RewardFolder, IsReadAtItsStopTokenByTheCommandToo) {
  const auto folder = make_reward_model("reward", 1);
  write_read_at(folder, "stop_token");
  RewardModel model(folder, kStoryteller);
  std::stringstream lines, scores;
  for (const std::string text : {" He was happy.", " He was very sad", ""})
    lines << json{{"prompt", kPrompt}, {"response", text}} << '\n';
  ScoreOptions options;
  options.model = folder;
  stages::score({}, options, lines, "test", scores);
  for (const float expected : score(model)) {
    std::string line;
    ASSERT_TRUE(std::getline(scores, line));
    EXPECT_FLOAT_EQ(json::parse(line)["reward"].get<float>(), expected);
  }
}

/// transformers reads at the last token that is not padding: the stop token must not be.
TEST_F(RewardFolder, ReadAtAStopTokenPadsWithAnother) {
  const auto pads = [&](const std::string& name) {
    const auto folder = make_reward_model(name, 1);
    write_read_at(folder, "stop_token");
    EXPECT_EQ(read(name + "/config.json")["reward_read_at"], "stop_token");
    return std::pair(read(name + "/config.json")["pad_token_id"],
                     read(name + "/tokenizer_config.json")["pad_token"]);
  };
  EXPECT_EQ(pads("own"), std::pair(json(0), json("<unk>")));
  for (const auto* file : {"language/config.json", "language/generation_config.json"}) {
    auto config = read(file);
    config["pad_token_id"] = config["eos_token_id"];
    std::ofstream(folder_ / file) << config.dump();
  }
  EXPECT_EQ(pads("begins"), std::pair(json(1), json("<s>")));
  for (const auto* file : {"language/config.json", "language/generation_config.json"}) {
    auto config = read(file);
    config["bos_token_id"] = config["eos_token_id"];
    std::ofstream(folder_ / file) << config.dump();
  }
  EXPECT_EQ(pads("none"), std::pair(json(), json()));
}

TEST_F(RewardFolder, SaysWhereItIsReadOrIsRefused) {
  const auto folder = make_reward_model("reward", 1);
  auto config = read("reward/config.json");
  config["reward_read_at"] = "end";
  std::ofstream(folder / "config.json") << config.dump();
  EXPECT_THAT([&] { RewardModel(folder, kStoryteller); },
              testing::ThrowsMessage<InputError>(
                  HasSubstr("reward_read_at is \"end\"; it has to be \"last_token\" or \"stop_token\"")));
  const auto letters =
      text::Tokenizer::parse(R"({"model": {"type": "BPE", "merges": [], "vocab": {"a": 0}}})", "test");
  EXPECT_THAT([&] { closing_token(folder, letters, "stop_token"); },
              testing::ThrowsMessage<InputError>(HasSubstr("names one (eos_token_id)")));
}

TEST_F(RewardFolder, SeveralAreCombined) {
  experiment::RewardChoice choice;
  choice.models = {make_reward_model("a", 1), make_reward_model("b", 2)};
  RewardModel a(choice.models[0], kStoryteller), b(choice.models[1], kStoryteller);
  const auto of_a = score(a), of_b = score(b);
  ASSERT_NE(of_a, of_b);
  const auto mean = make_reward_source("model.reward", choice, kStoryteller);
  choice.combine = "minimum";
  const auto minimum = make_reward_source("model.reward", choice, kStoryteller);
  choice.combine = "lower_bound";
  choice.kappa = 0.5;
  const auto bound = make_reward_source("model.reward", choice, kStoryteller);
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    const double x = of_a[i], y = of_b[i];
    EXPECT_FLOAT_EQ(score(*mean)[i], static_cast<float>((x + y) / 2));
    EXPECT_EQ(score(*minimum)[i], std::min(of_a[i], of_b[i]));
    EXPECT_FLOAT_EQ(score(*bound)[i], static_cast<float>((x + y) / 2 - 0.5 * std::abs(x - y) / 2));
  }
  EXPECT_NE(mean->fingerprint(), minimum->fingerprint());
}

TEST(FrozenFolder, HoldsItsMatricesRoundedAndAllElseAsItIs) {
  const auto model = ModelFolder::load(kStoryteller);
  const auto frozen = ModelFolder::load_frozen(kStoryteller, kernels::Precision::kBfloat16);
  EXPECT_EQ(frozen.parameters.size(), 0u) << "no float32 copy is left";
  EXPECT_EQ(ModelFolder::load_frozen(kStoryteller, kernels::Precision::kFloat32).narrow.empty(), true);
  std::vector<float> held(model.parameters.size());
  frozen.copy_to({}, held);
  for (const auto& view : model.transformer.layout().views())
    for (auto i = static_cast<std::size_t>(view.offset);
         i < static_cast<std::size_t>(view.offset + view.size); ++i) {
      const float value = model.parameters[i];
      if (view.shape.size() < 2)
        ASSERT_EQ(held[i], value) << view.name;
      else
        ASSERT_NEAR(held[i], value, std::abs(value) / 256) << view.name;
    }
}

TEST_F(RewardFolder, ScoresNearlyTheSameHeldInBfloat16) {
  const auto folder = make_reward_model("reward", 1);
  RewardModel whole(folder, kStoryteller);
  RewardModel frozen(folder, kStoryteller, "as_saved", {}, kernels::Precision::kFloat32,
                     kernels::Precision::kBfloat16);
  const auto expected = score(whole), actual = score(frozen);
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], 0.02f * (1 + std::abs(expected[i])));
}

TEST_F(RewardFolder, ALanguageModelIsNone) {
  try {
    RewardModel model(kStoryteller, kStoryteller);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("storyteller: not a reward model: config.json must name a "
                                        "*ForSequenceClassification architecture with one label"));
  }
}

}  // namespace
}  // namespace infalign::stages
