// A real chat model against PyTorch's numbers: what it says, and how likely it finds five texts. The numbers
// stand in the shared data, the weights (how to get them is told there too) at INFALIGN_SMOLLM2.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "core/model/generation.h"
#include "core/stages/model_folder.h"
#include "core/stages/model_weights.h"
#include "support/tiny_safetensors.h"

namespace infalign::stages {
namespace {

using Tokens = std::vector<std::int32_t>;

class SmolLm2 : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("INFALIGN_SMOLLM2");
    const auto numbers = data_folder() / "smollm2" / "golden.json";
    if (folder == nullptr || !std::filesystem::exists(numbers))
      GTEST_SKIP() << "needs " << numbers << ", and INFALIGN_SMOLLM2 set to the model's folder";
    golden_ = read_json(numbers);
    transformer_.emplace(read_model_config(folder));
    parameters_ = kernels::Buffer<float>(static_cast<std::size_t>(transformer_->layout().size()));
    rounded_ =
        read_weights(folder, *transformer_, Require::kAll, parameters_.span()) != storage::DataType::kFloat32;
    weights_ = transformer_->prepare({}, parameters_.span(), kernels::Use::kSampling);
  }

  nlohmann::json golden_;
  std::optional<model::Transformer> transformer_;
  kernels::Buffer<float> parameters_;
  model::Weights weights_;
  bool rounded_ = false;  // the weights are those of the golden numbers rounded to bfloat16
};

TEST_F(SmolLm2, FindsTextsAsLikelyAsPyTorchDoes) {
  for (const auto& text : golden_.at("losses")) {
    SCOPED_TRACE(text.at("name").get<std::string>());
    model::PackedBatch batch;
    model::Targets targets;
    targets.add_sequence(batch, batch.add(text.at("ids").get<Tokens>()));
    model::Activations activations;
    model::TokenLogProbabilities head;
    transformer_->forward({}, weights_, batch, model::Keep::kNothing, activations);
    head.forward({}, *transformer_, weights_, activations, targets, 1);
    const auto nll = text.at("nll").get<std::vector<double>>();
    ASSERT_EQ(head.values().size(), nll.size());
    double mean = 0;
    for (std::size_t i = 0; i < nll.size(); ++i) {
      mean -= double{head.values()[i]} / static_cast<double>(nll.size());
      if (rounded_) continue;
      EXPECT_NEAR(-double{head.values()[i]}, nll[i], 1e-4) << "at " << i;
    }
    EXPECT_NEAR(mean, text.at(rounded_ ? "mean_nll_bfloat16_weights" : "mean_nll").get<double>(), 5e-6);
  }
}

// With rounded weights only as far as the best token is far ahead.
TEST_F(SmolLm2, SaysWhatPyTorchSays) {
  for (const auto& chat : golden_.at("greedy")) {
    auto expected = chat.at("new_ids").get<Tokens>();
    const auto gaps = chat.at("top1_minus_top2").get<std::vector<double>>();
    const auto close = std::find_if(gaps.begin(), gaps.end(), [](double gap) { return gap < 2; });
    if (rounded_) expected.resize(static_cast<std::size_t>(close - gaps.begin()));
    const model::SamplingSettings settings{
        .greedy = true, .max_new_tokens = golden_.at("new_tokens"), .stop_tokens = {2}};
    const std::vector<model::Prompt> prompts = {{chat.at("prompt_ids").get<Tokens>(), 0}};
    auto said = model::Generator(*transformer_).generate({}, weights_, prompts, 1, settings, {})[0][0];
    if (rounded_) said.tokens.resize(std::min(said.tokens.size(), expected.size()));
    EXPECT_EQ(said.tokens, expected);
  }
}

}  // namespace
}  // namespace infalign::stages
