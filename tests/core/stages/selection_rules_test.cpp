// Whole runs, calibrate to evaluate, for procedures that have no closed form: what was measured has to have
// got better, and better than by a transform that does not know the procedure.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/stages/run.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

using nlohmann::json;

experiment::Variant variant_of(const std::string& name, const std::string& transform) {
  experiment::Variant variant;
  variant.name = name;
  variant.transform = transform;
  variant.target_kl = 0.4;
  variant.optimizer.learning_rate = 0.1;
  variant.optimizer.schedule = "cosine";
  variant.optimizer.final_learning_rate_fraction = 0.01;
  variant.optimizer.max_gradient_norm = 0;
  return variant;
}

class SelectionRules : public testing::Test {
 protected:
  SelectionRules() {
    experiment_.name = "selection rules";
    experiment_.output =
        std::filesystem::path(testing::TempDir()) /
        (std::string("infalign_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(experiment_.output);
    std::filesystem::create_directories(experiment_.output);
    experiment_.synthetic.emplace();
    experiment_.synthetic->prompts = 64;
    experiment_.synthetic->responses = 64;
    experiment_.calibration.rollouts_per_prompt = 128;
    experiment_.alignment.steps = 150;
    experiment_.alignment.prompts_per_step = 64;
    experiment_.alignment.samples_per_prompt = 24;
    experiment_.alignment.variants = {variant_of("identity", "identity"),
                                      variant_of("rule", "leave_one_out")};
    experiment_.evaluation = {128, 0};
    experiment_.distributed.micro_batch_prompts = 16;
    experiment_.checkpoint.every = 1 << 30;
    experiment_.checkpoint.keep = 1;
  }
  ~SelectionRules() override { std::filesystem::remove_all(experiment_.output); }

  /// The variants of evaluation.json.
  json run() {
    const auto ranks = distributed::make_local();
    stages::Run run{experiment_, *ranks};
    run.progress = false;
    calibrate(run);
    align(run);
    evaluate(run);
    return json::parse(storage::read_file(experiment_.evaluation_path())).at("variants");
  }
  static double value(const json& variant, const std::string& key) {
    return variant.at(key).at("value").get<double>();
  }

  experiment::Experiment experiment_;
};

TEST_F(SelectionRules, AMajorityVoteIsRightMoreOften) {
  experiment_.inference.procedure = "majority_vote";
  experiment_.inference.n = 5;
  experiment_.inference.value = "reward";
  experiment_.synthetic->rewards = "verifier";
  experiment_.synthetic->pass_rate = 0.3;
  experiment_.synthetic->answers = 3;
  // Right 0.30 of the time before, 0.69 after at this seed: the margin is a quarter of what was gained.
  const auto variants = run();
  const auto& rule = variants.at(1);
  EXPECT_NEAR(value(rule, "kl"), 0.4, 0.1);
  EXPECT_GT(value(rule, "inference_reward"), value(rule, "reference_inference_reward") + 0.3);
}

TEST_F(SelectionRules, RetryingWinsMoreOften) {
  experiment_.inference.procedure = "retry_until";
  experiment_.inference.n = 4;
  experiment_.inference.threshold = 1;
  // 0.5 before by definition, 0.81 after at this seed; 0.73 for the policy that is aligned as if there were
  // no retries, which is the better one without them. Standard errors over 64 prompts are below 0.01.
  const auto variants = run();
  const auto &identity = variants.at(0), &rule = variants.at(1);
  EXPECT_NEAR(value(rule, "kl"), 0.4, 0.05);
  EXPECT_NEAR(value(identity, "kl"), 0.4, 0.05);
  EXPECT_GT(value(rule, "inference_win_rate"), 0.77);
  EXPECT_GT(value(rule, "inference_win_rate"), value(identity, "inference_win_rate") + 0.04);
  EXPECT_LT(value(rule, "standard_win_rate"), value(identity, "standard_win_rate") - 0.04);
}

}  // namespace
}  // namespace infalign::stages
