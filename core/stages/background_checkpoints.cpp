#include "core/stages/background_checkpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "kernels/trace.h"

namespace infalign::stages {
namespace {

std::filesystem::path temporary_of(const std::filesystem::path& final_folder) {
  return final_folder.string() + ".tmp";
}

std::string megabytes(std::int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

}  // namespace

void require_free_space(const std::filesystem::path& folder, std::int64_t step, std::int64_t needed,
                        std::int64_t available) {
  if (needed <= available) return;
  throw std::runtime_error(folder.string() + ": the checkpoint of step " + std::to_string(step) + " needs " +
                           megabytes(needed) + ", and the disk has " + megabytes(available) +
                           " left; make room and start again. The checkpoint before it is whole");
}

BackgroundCheckpoints::BackgroundCheckpoints(const Run& run, std::filesystem::path folder,
                                             std::vector<storage::TensorPlace> tensors,
                                             std::vector<storage::FlatInterval> intervals)
    : run_(run), folder_(std::move(folder)), tensors_(std::move(tensors)), intervals_(std::move(intervals)) {}

void BackgroundCheckpoints::join() {
  if (work_.valid()) work_.get();
}

/// All ranks write to one file system, which has to take all shards.
void BackgroundCheckpoints::require_room() const {
  const auto needed = storage::checkpoint_bytes(tensors_, groups_.size(), intervals_.size());
  double least = -static_cast<double>(storage::free_bytes(folder_));
  run_.ranks.all_reduce_max(std::span(&least, 1));
  require_free_space(folder_, info_.step, needed, static_cast<std::int64_t>(-least));
}

void BackgroundCheckpoints::begin(const storage::CheckpointInfo& info,
                                  std::span<const storage::FlatShard> groups) {
  finish();
  const kernels::Span span("checkpoint: copy");
  info_ = info;
  groups_.clear();
  for (const auto& group : groups) groups_.push_back(group.group);
  const auto temporary = temporary_of(folder_ / storage::checkpoint_name(info.step));
  if (run_.root()) {
    std::filesystem::remove_all(temporary);
    std::filesystem::create_directories(temporary);
  }
  run_.ranks.barrier();
  require_room();

  copies_.resize(groups.size());
  std::vector<storage::FlatShard> shards;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    copies_[i].reserve(groups[i].values.size());
    kernels::download(run_.on, groups[i].values.data(), copies_[i].span().first(groups[i].values.size()));
    shards.push_back(
        {groups[i].group, std::span<const float>(copies_[i].span()).first(groups[i].values.size())});
  }
  const int rank = run_.ranks.rank();
  work_ = std::async(std::launch::async, [this, temporary, rank, shards = std::move(shards)] {
    const kernels::Span writing("checkpoint: write");
    storage::write_checkpoint_shard(temporary, rank, tensors_, intervals_[static_cast<std::size_t>(rank)],
                                    shards);
  });
  stage_ = Stage::kWritingShards;
}

void BackgroundCheckpoints::put_in_place() {
  const kernels::Span span("checkpoint: put in place");
  const auto final_folder = folder_ / storage::checkpoint_name(info_.step);
  storage::finish_checkpoint(temporary_of(final_folder), final_folder, info_, tensors_, intervals_, groups_);
  const auto& settings = run_.experiment.checkpoint;
  storage::prune_checkpoints(folder_, static_cast<int>(settings.keep), settings.keep_every);
}

void BackgroundCheckpoints::poll() {
  const bool ready = !work_.valid() || work_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  if (ready) join();
  if (stage_ != Stage::kWritingShards) return;
  double unfinished = ready ? 0 : 1;
  run_.ranks.all_reduce_max(std::span(&unfinished, 1));
  if (unfinished > 0) return;
  stage_ = Stage::kPuttingInPlace;
  if (run_.root()) work_ = std::async(std::launch::async, [this] { put_in_place(); });
}

void BackgroundCheckpoints::finish() {
  if (stage_ == Stage::kNone) return;
  const kernels::Span span("checkpoint: wait");
  join();
  if (stage_ == Stage::kWritingShards) {
    run_.ranks.barrier();  // all shards are written
    if (run_.root()) put_in_place();
  }
  run_.ranks.barrier();
  stage_ = Stage::kNone;
}

}  // namespace infalign::stages
