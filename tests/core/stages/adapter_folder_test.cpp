// Adapters as folders: what goes out comes in as the model with the adapter added, and what is not computed
// is refused by name.
#include "core/stages/adapter_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/stages/model_folder.h"
#include "core/stages/storyteller.h"
#include "core/storage/durable.h"
#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class AdapterFolder : public testing::Test {
 protected:
  /// Writes an adapter of these targets, far from its start, and returns the parameters it makes.
  std::vector<float> save(const ModelFolder& model, const std::vector<std::string>& targets,
                          float alpha = 3) const {
    const model::AdapterLayout layout(model.transformer.config(), {2, alpha, targets});
    std::vector<float> values;
    std::mt19937 generator(3);
    std::normal_distribution<float> normal(0, 0.1f);
    for (std::int64_t i = 0; i < layout.size(); ++i) values.push_back(normal(generator));
    save_adapter_folder(kStoryteller, adapter_, model.transformer, layout, values);
    std::vector<float> merged(model.parameters.span().begin(), model.parameters.span().end());
    model::merge({}, model.transformer.layout(), layout, values, merged);
    return merged;
  }
  static std::vector<float> parameters(const ModelFolder& folder) {
    return {folder.parameters.span().begin(), folder.parameters.span().end()};
  }
  json config() const { return json::parse(storage::read_file(adapter_ / "adapter_config.json")); }
  std::string refusal_with(const std::string& key, const json& value) const {
    auto changed = config();
    changed[key] = value;
    std::ofstream(adapter_ / "adapter_config.json") << changed.dump();
    try {
      ModelFolder::load(adapter_);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

  const ScratchFolder scratch_;
  const std::filesystem::path adapter_ = scratch_.path() / "adapter";
};

TEST_F(AdapterFolder, ComesInAsTheModelWithTheAdapterAdded) {
  const auto model = ModelFolder::load(kStoryteller);
  for (const auto& targets : {std::vector<std::string>{"q_proj", "down_proj"}, {"all-linear"}}) {
    const auto merged = save(model, targets);
    EXPECT_TRUE(is_adapter_folder(adapter_));
    EXPECT_FALSE(is_adapter_folder(kStoryteller));
    EXPECT_EQ(parameters(ModelFolder::load(adapter_)), merged);
    EXPECT_EQ(parameters(ModelFolder::load(kStoryteller, adapter_)), merged);
    EXPECT_NE(parameters(model), merged);
  }
  EXPECT_NE(fingerprint_folder(adapter_), fingerprint_folder(kStoryteller));
}

TEST_F(AdapterFolder, IsAddedBeforeTheModelIsRoundedToBeFrozen) {
  const auto model = ModelFolder::load(kStoryteller);
  const auto merged = save(model, {"q_proj"});
  const auto& layout = model.transformer.layout();
  model::NarrowParameters frozen(layout);
  for (const auto& view : layout.views())
    frozen.set({}, view,
               std::span(merged).subspan(static_cast<std::size_t>(view.offset),
                                         static_cast<std::size_t>(view.size)));
  std::vector<float> expected(merged.size()), actual(merged.size());
  frozen.copy_to({}, layout, expected);
  const auto check = [&](const ModelFolder& folder) {
    EXPECT_EQ(folder.parameters.size(), 0u) << "no float32 copy is left";
    folder.copy_to({}, actual);
    EXPECT_EQ(actual, expected);
  };
  check(ModelFolder::load_frozen(adapter_, kernels::Precision::kBfloat16));
  check(ModelFolder::load_frozen(kStoryteller, kernels::Precision::kBfloat16, adapter_));
}

TEST_F(AdapterFolder, SaysWhatPeftNeedsToLoadIt) {
  save(ModelFolder::load(kStoryteller), {"q_proj"}, 4.5f);
  const json about = config();
  EXPECT_EQ(about["peft_type"], "LORA");
  EXPECT_EQ(about["task_type"], "CAUSAL_LM");
  EXPECT_EQ(about["base_model_name_or_path"], kStoryteller.lexically_normal().string());
  EXPECT_EQ(about["r"], 2);
  EXPECT_EQ(about["lora_alpha"], 4.5);
  EXPECT_EQ(about["target_modules"], json({"q_proj"}));
  EXPECT_EQ(about["modules_to_save"], nullptr);
}

TEST_F(AdapterFolder, MayTurnALanguageModelIntoARewardModel) {
  const auto reward = load_as_reward_model(kStoryteller, 5);
  const auto merged = save(reward, {"v_proj"});
  EXPECT_EQ(config()["task_type"], "SEQ_CLS");
  EXPECT_EQ(config()["modules_to_save"], json({"score"}));
  EXPECT_TRUE(read_model_config(adapter_).score_head);
  EXPECT_EQ(parameters(ModelFolder::load(adapter_)), merged);
  EXPECT_EQ(parameters(ModelFolder::load(kStoryteller, adapter_)), merged);
}

TEST_F(AdapterFolder, RankStabilisedScalingIsComputed) {
  const auto model = ModelFolder::load(kStoryteller);
  const auto merged = save(model, {"q_proj"}, 3 * std::sqrt(2.0f));
  auto changed = config();
  changed["use_rslora"] = true;
  changed["lora_alpha"] = 3;
  std::ofstream(adapter_ / "adapter_config.json") << changed.dump();
  EXPECT_EQ(parameters(ModelFolder::load(adapter_)), merged);
}

TEST_F(AdapterFolder, RefusesByNameWhatIsNotComputed) {
  save(ModelFolder::load(kStoryteller), {"q_proj"});
  EXPECT_THAT(refusal_with("alpha_pattern", {{"q_proj", 3}}), HasSubstr("alpha_pattern is {\"q_proj\":3}"));
  save(ModelFolder::load(kStoryteller), {"q_proj"});
  EXPECT_THAT(refusal_with("base_model_name_or_path", "someone/something"),
              HasSubstr("base_model_name_or_path is \"someone/something\", which is no model folder here"));
  save(ModelFolder::load(kStoryteller), {"q_proj"});
  EXPECT_THAT(refusal_with("r", "two"), HasSubstr("r is missing or not a number above 0"));
  save(ModelFolder::load(kStoryteller), {"q_proj"});
  EXPECT_THAT(refusal_with("r", 5), HasSubstr("has shape"));
}

TEST_F(AdapterFolder, BesideAModelsWeightsIsAmbiguous) {
  save(ModelFolder::load(kStoryteller), {"q_proj"});
  std::filesystem::copy(kStoryteller / "model.safetensors", adapter_);
  EXPECT_THAT([&] { ModelFolder::load(adapter_); },
              testing::ThrowsMessage<InputError>(HasSubstr("holds both a model and an adapter")));
}

}  // namespace
}  // namespace infalign::stages
