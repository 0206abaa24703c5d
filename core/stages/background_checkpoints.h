// Checkpoints while training goes on. A step waits only until each rank has copied its interval of parameters
// and moments; a thread of the rank writes the copy to disk, and training goes on meanwhile. Ranks agree that
// all shards are written at a later step boundary, on the thread that does all other collectives too: the
// writing threads never talk to each other, so no order of collectives depends on the speed of a disk. Then
// the root has its thread put the checkpoint in place. At most one is in flight: the next one, and the end,
// wait for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/stages/run.h"
#include "core/storage/checkpoint.h"
#include "kernels/device.h"

namespace infalign::stages {

class BackgroundCheckpoints {
 public:
  /// In `folder`, of `tensors`, each rank its interval of the flat buffers.
  BackgroundCheckpoints(const Run& run, std::filesystem::path folder,
                        std::vector<storage::TensorPlace> tensors,
                        std::vector<storage::FlatInterval> intervals);
  /// Waits for this rank's thread. What is not complete stays a leftover.
  ~BackgroundCheckpoints() = default;
  BackgroundCheckpoints(const BackgroundCheckpoints&) = delete;
  BackgroundCheckpoints& operator=(const BackgroundCheckpoints&) = delete;

  /// Waits for the one before, copies `groups` (each this rank's interval, on the run's device, the same on
  /// all ranks in name and order), and has them written. Collective. Errors, here and below:
  /// std::runtime_error with what became of the one before, on the rank where it failed; on all ranks where
  /// the disk has not enough room for this one. The newest complete checkpoint stays whole.
  void begin(const storage::CheckpointInfo& info, std::span<const storage::FlatShard> groups);

  /// At the end of every step: goes on with the one in flight, if there is one. Collective.
  void poll();

  /// Waits until no checkpoint is in flight. Collective.
  void finish();

 private:
  enum class Stage { kNone, kWritingShards, kPuttingInPlace };

  void require_room() const;
  void put_in_place();
  /// Of this rank's thread: rethrows what it ended with.
  void join();

  const Run& run_;
  std::filesystem::path folder_;
  std::vector<storage::TensorPlace> tensors_;
  std::vector<storage::FlatInterval> intervals_;  // [world]

  Stage stage_ = Stage::kNone;  // the same on all ranks
  storage::CheckpointInfo info_;
  std::vector<std::string> groups_;
  std::vector<kernels::Buffer<float>> copies_;  // [groups][own interval]
  std::future<void> work_;                      // last member: its destructor waits for the thread
};

/// Throws std::runtime_error that names the folder, what is needed and what there is, if that is less.
void require_free_space(const std::filesystem::path& folder, std::int64_t step, std::int64_t needed,
                        std::int64_t available);

}  // namespace infalign::stages
