// Checkpoints in HDF5 that are complete or absent and belong to no number of ranks. `step_N/` holds one shard
// file per rank with that rank's interval of the flat buffers, cut at tensor borders, and `checkpoint.h5`, in
// which virtual datasets show every tensor whole (`h5ls -r`, h5dump, h5py). The protocol, driven by the
// caller: every rank write_shard into `step_N.tmp`; barrier; rank 0 finish.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace infalign::storage {

struct CheckpointIndex;  // checkpoint_index.h

/// A tensor's place in the flat buffer. Its name is as in the model, without "/"; it has at least one
/// dimension.
struct TensorPlace {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;
  std::int64_t size = 0;
};

/// Half-open interval of the flat buffer.
struct FlatInterval {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

struct CheckpointInfo {
  std::int64_t step = 0;
  int world_size = 1;
  std::uint64_t seed = 0;
  std::string configuration;  // the resolved YAML
  std::string git_revision;
  /// Small things a stage carries on: beta, controller, counts. Shown as attributes, so not of their names.
  std::map<std::string, std::string> state;
};

/// One group of the file: "model", "optimizer/first_moment", "optimizer/second_moment"; `values` is this
/// rank's interval.
struct FlatShard {
  std::string group;
  std::span<const float> values;
};

/// Writes this rank's shard into `folder` (created if absent), chunks of at most 1 MiB with Fletcher-32, and
/// fsyncs it. Errors: std::runtime_error naming the file and the cause (disk full, permission, a value that
/// is not finite).
void write_checkpoint_shard(const std::filesystem::path& folder, int rank,
                            std::span<const TensorPlace> tensors, FlatInterval interval,
                            std::span<const FlatShard> shards);

/// Bytes of a whole checkpoint, all shards together, a little rounded up.
std::int64_t checkpoint_bytes(std::span<const TensorPlace> tensors, std::size_t groups,
                              std::size_t world_size);

/// What is free for us on the file system of an existing folder; all there is where the system does not tell.
std::int64_t free_bytes(const std::filesystem::path& folder);

/// On one rank, after all shards are written: `checkpoint.h5` with attributes and virtual datasets,
/// `complete` = 1, fsync, then rename of `temporary` to `final_folder` (in place of an older one of that
/// name) and fsync of the parent. Errors: std::runtime_error naming the file and the cause; then
/// `final_folder` is as it was.
void finish_checkpoint(const std::filesystem::path& temporary, const std::filesystem::path& final_folder,
                       const CheckpointInfo& info, std::span<const TensorPlace> tensors,
                       std::span<const FlatInterval> intervals, std::span<const std::string> groups);

class CheckpointReader {
 public:
  /// Opens `folder`/checkpoint.h5 and checks version, completeness and that each shard is there, of its full
  /// length. Errors: InputError naming the file and what is wrong (absent, truncated, other version,
  /// checksum).
  explicit CheckpointReader(const std::filesystem::path& folder);
  const CheckpointInfo& info() const;

  /// Reads an interval of a group's flat buffer, laid out by `tensors`, from whichever shards hold it; what
  /// belongs to no tensor becomes 0. Errors: InputError for a tensor that is missing, surplus or of another
  /// shape, and for a failed checksum, naming it.
  void read(const std::string& group, std::span<const TensorPlace> tensors, FlatInterval interval,
            std::span<float> out) const;

 private:
  std::shared_ptr<const CheckpointIndex> index_;
};

/// The complete checkpoints of a folder of `step_NNNNNN`, by ascending step; leftovers (`.tmp`) are not among
/// them.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

/// Removes all but the newest `keep` and those of a step that is a multiple of `keep_every` (0: of none), and
/// leftovers of interrupted writes.
void prune_checkpoints(const std::filesystem::path& folder, int keep, std::int64_t keep_every = 0);

/// "step_000120".
std::string checkpoint_name(std::int64_t step);

}  // namespace infalign::storage
