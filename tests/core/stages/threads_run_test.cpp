// A whole run, from calibration to evaluation, on ranks that are threads: the same bytes as on one rank. It
// is what launch/sanitize runs under the thread sanitizer.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>

#include "core/stages/run.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

/// Tables of 6 prompts, three variants of which one looks for its beta, and checkpoints every other step.
experiment::Experiment small_experiment(const std::string& name) {
  experiment::Experiment experiment;
  experiment.name = "threads";
  experiment.output = std::filesystem::path(testing::TempDir()) /
                      ("infalign_threads_run_" + std::to_string(getpid()) + "_" + name);
  std::filesystem::remove_all(experiment.output);
  experiment.synthetic.emplace();
  experiment.synthetic->prompts = 6;
  experiment.synthetic->responses = 32;
  experiment.inference.procedure = "best_of_n";
  experiment.inference.n = 4;
  experiment.calibration.rollouts_per_prompt = 32;
  experiment.alignment.steps = 5;
  experiment.alignment.prompts_per_step = 6;
  experiment.alignment.samples_per_prompt = 16;
  for (const std::string transform : {"identity", "optimal", "leave_one_out"}) {
    auto& variant = experiment.alignment.variants.emplace_back();
    variant.name = variant.transform = transform;
    variant.beta = 0.5;
    variant.optimizer.learning_rate = 0.1;
  }
  experiment.alignment.variants[1].beta.reset();
  experiment.alignment.variants[1].target_kl = 0.2;
  experiment.evaluation = {16, 2};
  experiment.distributed.micro_batch_prompts = 1;
  experiment.checkpoint.every = 2;
  experiment.checkpoint.keep = 2;
  return experiment;
}

/// The files of a run that must not depend on the number of ranks.
std::map<std::string, std::string> results(const std::string& name, int ranks, std::int64_t sharding = 1) {
  auto experiment = small_experiment(name);
  experiment.distributed.sharding = sharding;
  distributed::run_threads(ranks, [&](distributed::Communicator& communicator) {
    Run run{experiment, communicator};
    run.progress = false;
    run_stages(run, {experiment::Stage::kCalibrate, experiment::Stage::kAlign, experiment::Stage::kEvaluate});
  });
  std::map<std::string, std::string> files = {
      {"calibration", storage::read_file(experiment.calibration_path())},
      {"evaluation", storage::read_file(experiment.evaluation_path())}};
  std::filesystem::remove_all(experiment.output);
  return files;
}

TEST(ThreadsRun, GivesTheSameFilesOnAnyNumberOfRanks) {
  const auto expected = results("alone", 1);
  for (const int ranks : {2, 3, 4}) {
    for (const auto& [file, bytes] : results(std::to_string(ranks), ranks))
      EXPECT_TRUE(bytes == expected.at(file)) << file << " on " << ranks << " ranks";
  }
}

TEST(ThreadsRun, GivesTheSameFilesInEveryStageOfSharding) {
  const auto expected = results("alone", 1);
  for (const std::int64_t sharding : {0, 2, 3}) {
    for (const auto& [file, bytes] : results("stage_" + std::to_string(sharding), 3, sharding))
      EXPECT_TRUE(bytes == expected.at(file)) << file << " in stage " << sharding;
  }
}

}  // namespace
}  // namespace infalign::stages
