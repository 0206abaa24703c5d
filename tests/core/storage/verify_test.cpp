#include "core/storage/verify.h"

#include "core/storage/calibration_file.h"
#include "core/storage/checkpoint.h"
#include "core/storage/safetensors.h"
#include "core/storage/support.h"

namespace infalign::storage {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

/// step_000002 of two ranks, with a tensor of several chunks across their border.
std::filesystem::path write_small_checkpoint(const TemporaryFolder& folder) {
  constexpr std::int64_t kRows = 700, kColumns = 1000, kSize = kRows * kColumns;
  const std::vector<TensorPlace> tensors = {{"w", {kRows, kColumns}, 0, kSize}};
  const std::vector<FlatInterval> intervals = {{0, 300'000}, {300'000, kSize}};
  const std::vector<std::string> groups = {"model", "optimizer/first_moment"};
  for (int rank = 0; rank < 2; ++rank) {
    const FlatInterval own = intervals[static_cast<std::size_t>(rank)];
    std::vector<float> values;
    for (std::int64_t i = own.begin; i < own.end; ++i) values.push_back(static_cast<float>(i));
    write_checkpoint_shard(folder / "t", rank, tensors, own,
                           std::vector<FlatShard>{{groups[0], values}, {groups[1], values}});
  }
  CheckpointInfo info;
  info.step = 2;
  info.world_size = 2;
  finish_checkpoint(folder / "t", folder / "step_000002", info, tensors, intervals, groups);
  return folder / "step_000002";
}

void flip(const std::filesystem::path& file, std::size_t place) {
  std::string bytes = bytes_of(file);
  ASSERT_LT(place, bytes.size());
  bytes[place] = static_cast<char>(bytes[place] ^ 1);
  set_bytes(file, bytes);
}

/// The names of the files that are damaged.
std::vector<std::string> damaged(const std::filesystem::path& path) {
  std::vector<std::string> names;
  for (const VerifiedFile& file : verify(path)) {
    if (file.damage.empty()) continue;
    EXPECT_THAT(file.damage, StartsWith(file.path.string()));
    names.push_back(file.path.filename().string());
  }
  return names;
}

TEST(Verify, ReadsEveryFileOfACheckpoint) {
  TemporaryFolder folder;
  const auto checkpoint = write_small_checkpoint(folder);
  EXPECT_EQ(verify(checkpoint).size(), 3U);
  EXPECT_THAT(damaged(checkpoint), testing::IsEmpty());
  EXPECT_EQ(verify(checkpoint / "checkpoint.h5").size(), 3U);
}

TEST(Verify, NamesEachDamagedFile) {
  TemporaryFolder folder;
  const auto checkpoint = write_small_checkpoint(folder);
  const auto middle = [&](const char* name) { return std::filesystem::file_size(checkpoint / name) / 2; };
  flip(checkpoint / "shard_00001.h5", middle("shard_00001.h5"));
  EXPECT_THAT(damaged(checkpoint), testing::ElementsAre("shard_00001.h5"));
  flip(checkpoint / "shard_00000.h5", middle("shard_00000.h5"));
  EXPECT_THAT(damaged(checkpoint), testing::ElementsAre("shard_00000.h5", "shard_00001.h5"));
  flip(checkpoint / "checkpoint.h5", middle("checkpoint.h5"));
  EXPECT_THAT(damaged(checkpoint), testing::ElementsAre("checkpoint.h5", "shard_00000.h5", "shard_00001.h5"));
}

TEST(Verify, TellsAShardThatIsLongerOrGone) {
  TemporaryFolder folder;
  const auto checkpoint = write_small_checkpoint(folder);
  set_bytes(checkpoint / "shard_00000.h5", bytes_of(checkpoint / "shard_00000.h5") + "more");
  EXPECT_THAT(damaged(checkpoint), testing::ElementsAre("shard_00000.h5"));
  std::filesystem::remove(checkpoint / "shard_00000.h5");
  const auto files = verify(checkpoint);
  ASSERT_EQ(files.size(), 2U);
  EXPECT_THAT(files[0].damage, HasSubstr("shard_00000.h5: this shard of the checkpoint is missing"));
}

TEST(Verify, ACalibrationFileAndAModelToo) {
  TemporaryFolder folder;
  CalibrationFile file;
  file.prompt_text = {"a"};
  file.prompt_id = {3};
  file.rollouts = 2;
  file.rewards = {1, 2};
  file.pooled_counts = {2};
  write_calibration(folder / "c.h5", file);
  EXPECT_THAT(damaged(folder / "c.h5"), testing::IsEmpty());
  const std::string bytes = bytes_of(folder / "c.h5");
  flip(folder / "c.h5", bytes.find(std::string("\0\0\x80\x3f\0\0\0\x40", 8)));
  EXPECT_THAT(damaged(folder / "c.h5"), testing::ElementsAre("c.h5"));

  const std::vector<float> values = {1, 2, 3, 4};
  write_safetensors(folder / "w.safetensors", std::vector<NamedTensor>{{"w", {4}, values}},
                    DataType::kFloat32);
  EXPECT_FALSE(verify(folder / "w.safetensors").at(0).has_checksums);
  EXPECT_THAT(damaged(folder / "w.safetensors"), testing::IsEmpty());
  set_bytes(folder / "w.safetensors", bytes_of(folder / "w.safetensors") + "more");
  EXPECT_THAT(damaged(folder / "w.safetensors"), testing::ElementsAre("w.safetensors"));
}

TEST(Verify, RefusesWhatItCannotRead) {
  TemporaryFolder folder;
  expect_refused<InputError>([&] { verify(folder / "absent"); }, {"absent", "does not exist"});
}

}  // namespace
}  // namespace infalign::storage
