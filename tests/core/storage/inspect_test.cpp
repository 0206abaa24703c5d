#include "core/storage/inspect.h"

#include "core/storage/calibration_file.h"
#include "core/storage/checkpoint.h"
#include "core/storage/safetensors.h"
#include "core/storage/support.h"

namespace infalign::storage {
namespace {

using testing::HasSubstr;

TEST(Inspect, AModelFolder) {
  const auto model = data_folder() / "hf-parity/llama-gqa-llama3";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "no test data at " << model;
  const auto about = describe_json(model);
  EXPECT_EQ(about["kind"], "model");
  EXPECT_EQ(about["architecture"], "LlamaForCausalLM");
  EXPECT_EQ(about["parameters"], 29'856);
  EXPECT_EQ(about["bytes"], 119'424);
  EXPECT_EQ(about["dtypes"]["F32"], 29'856);
  const std::string text = describe(model);
  EXPECT_THAT(text, HasSubstr("29,856"));
  EXPECT_THAT(text, HasSubstr("num_hidden_layers"));
  EXPECT_THAT(text, HasSubstr("model.layers.0..1.self_attn.q_proj.weight"));
}

TEST(Inspect, ASafetensorsFile) {
  TemporaryFolder folder;
  const std::vector<float> values = {1, 2, 3, 4};
  write_safetensors(folder / "weights.safetensors",
                    std::vector<NamedTensor>{{"h.0.w", {4}, values}, {"h.1.w", {2, 2}, values}},
                    DataType::kBFloat16);
  const auto about = describe_json(folder / "weights.safetensors");
  EXPECT_EQ(about["tensors"], nlohmann::json::parse(R"([{"name":"h.0.w","shape":[4],"dtype":"BF16"},
                                                        {"name":"h.1.w","shape":[2,2],"dtype":"BF16"}])"));
  const std::string text = describe(folder / "weights.safetensors");
  EXPECT_THAT(text, HasSubstr("h.0.w"));  // of different shapes: not one line
  EXPECT_THAT(text, HasSubstr("h.1.w"));
  std::filesystem::rename(folder / "weights.safetensors", folder / "named_otherwise");
  EXPECT_EQ(describe_json(folder / "named_otherwise")["parameters"], 8);
}

TEST(Inspect, ACheckpoint) {
  TemporaryFolder folder;
  const std::vector<TensorPlace> tensors = {{"w", {2, 3}, 0, 6}};
  const std::vector<float> values(6, 1.0F);
  const std::vector<std::string> groups = {"model", "optimizer/first_moment"};
  write_checkpoint_shard(folder / "t", 0, tensors, {0, 6},
                         std::vector<FlatShard>{{groups[0], values}, {groups[1], values}});
  CheckpointInfo info;
  info.step = 40;
  info.configuration = "name: quickstart\nseed: 1\n";
  info.state["beta"] = "0.1";
  finish_checkpoint(folder / "t", folder / "step_000040", info, tensors, std::vector<FlatInterval>{{0, 6}},
                    groups);
  for (const auto& path : {folder / "step_000040", folder / "step_000040/checkpoint.h5"}) {
    const auto about = describe_json(path);
    EXPECT_EQ(about["kind"], "checkpoint");
    EXPECT_EQ(about["step"], 40);
    EXPECT_EQ(about["groups"], nlohmann::json(groups));
    EXPECT_EQ(about["parameters"], 6);
    EXPECT_EQ(about["state"]["beta"], "0.1");
    EXPECT_EQ(about["tensors"][0]["shape"], (std::vector<int>{2, 3}));
    EXPECT_THAT(describe(path), HasSubstr("  name: quickstart\n  seed: 1\n"));
  }
}

TEST(Inspect, ACalibrationFile) {
  TemporaryFolder folder;
  CalibrationFile file;
  file.prompt_text = {"a"};
  file.prompt_id = {3};
  file.rollouts = 2;
  file.rewards = {1, 2};
  file.pooled_counts = {2};
  file.quantile_levels = {0.5};
  file.quantile_values = {1.5F};
  file.sampling = R"({"temperature":1.0})";
  file.reference_fingerprint = "0123456789abcdef";
  write_calibration(folder / "c.h5", file);
  const auto about = describe_json(folder / "c.h5");
  EXPECT_EQ(about["kind"], "calibration");
  EXPECT_EQ(about["prompts"], 1);
  EXPECT_EQ(about["rollouts_per_prompt"], 2);
  EXPECT_EQ(about["reward"]["mean"], 1.5);
  EXPECT_EQ(about["sampling"]["temperature"], 1.0);
  EXPECT_EQ(about["quantiles"][0]["reward"], 1.5);
  EXPECT_THAT(describe(folder / "c.h5"), HasSubstr("0123456789abcdef"));
}

TEST(Inspect, AnythingElseIsToldWhatCanBe) {
  TemporaryFolder folder;
  set_bytes(folder / "notes.txt", "hello, this is text");
  const std::vector<TensorPlace> tensors = {{"w", {1}, 0, 1}};
  write_checkpoint_shard(folder / "t", 0, tensors, {0, 1}, {});
  for (const auto& path :
       {folder / "notes.txt", folder / "absent", folder.path(), folder / "t/shard_00000.h5"}) {
    expect_refused<InputError>([&] { describe(path); },
                               {path.string(), "calibration.h5", "safetensors", "step_N"});
  }
}

}  // namespace
}  // namespace infalign::storage
