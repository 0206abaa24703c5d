#include "core/storage/checkpoint.h"

#include <hdf5.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <thread>

#include "core/storage/checkpoint_index.h"
#include "core/storage/durable.h"
#include "core/storage/hdf5_file.h"
#include "core/storage/support.h"

#ifdef INFALIGN_SANITIZED
/// HDF5 1.10 does not free its copy of metadata whose checksum does not fit; that is not ours to report.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }
#endif

namespace infalign::storage {
namespace {

const std::vector<std::string> kGroups = {"model", "optimizer/first_moment", "optimizer/second_moment"};

/// A tensor's element in a group: exact in float32, and different for each element of each tensor of each
/// group.
float value_of(std::size_t group, std::size_t tensor, std::int64_t element) {
  return static_cast<float>(static_cast<std::int64_t>(group) * 5'000'000 +
                            static_cast<std::int64_t>(tensor) * 400'000 + element + 1);
}

/// Tensors of one to four dimensions, one larger than a chunk, one without elements; `gap` unused elements
/// between them.
std::vector<TensorPlace> make_tensors(std::int64_t gap = 0) {
  const std::vector<std::pair<std::string, Shape>> shapes = {{"model.embed_tokens.weight", {7, 5}},
                                                             {"model.layers.0.norm.weight", {3}},
                                                             {"model.layers.0.mlp.weight", {2, 3, 4}},
                                                             {"score.weight", {1, 1}},
                                                             {"model.layers.1.large.weight", {523, 601}},
                                                             {"empty", {0, 4}},
                                                             {"last", {2, 3, 2, 3}}};
  std::vector<TensorPlace> tensors;
  std::int64_t offset = 0;
  for (const auto& [name, shape] : shapes) {
    tensors.push_back({name, shape, offset, element_count(shape)});
    offset += tensors.back().size + gap;
  }
  return tensors;
}

/// The flat buffer of a group; -1 in the gaps.
std::vector<float> make_flat(const std::vector<TensorPlace>& tensors, std::size_t group) {
  std::vector<float> flat(static_cast<std::size_t>(tensors.back().offset + tensors.back().size), -1.0F);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (std::int64_t e = 0; e < tensors[i].size; ++e) {
      flat[static_cast<std::size_t>(tensors[i].offset + e)] = value_of(group, i, e);
    }
  }
  return flat;
}

std::vector<FlatInterval> intervals_of(const std::vector<std::int64_t>& cuts) {
  std::vector<FlatInterval> intervals;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) intervals.push_back({cuts[i], cuts[i + 1]});
  return intervals;
}

/// 1, 2, 3, 5 ranks, 4 with an empty one, and 3 in another order; cuts inside rows, inside a
/// four-dimensional tensor, between tensors.
std::vector<std::vector<FlatInterval>> partitions(std::int64_t size) {
  return {intervals_of({0, size}),
          intervals_of({0, 13, size}),
          intervals_of({0, 17, 157'333, size}),
          intervals_of({0, 37, 50, 63 + 601 * 100 + 300, size - 20, size}),
          intervals_of({0, 35, 35, size - 36, size}),
          {{17, 157'333}, {157'333, size}, {0, 17}}};
}

CheckpointInfo make_info(std::size_t world_size) {
  CheckpointInfo info;
  info.step = 120;
  info.world_size = static_cast<int>(world_size);
  info.seed = 0xfedcba9876543210ULL;
  info.configuration =
      "name: quickstart # \xc3\xa9\n" + std::string(70'000, '#') + "\n";  // beyond 64 KiB, not ASCII
  info.git_revision = "0123abc";
  info.state = {{"beta", "0.1"}, {"empty", ""}, {"controller", "{\"integral\": 1}"}};
  for (int i = 0; i < 10; ++i) info.state["count_" + std::to_string(i)] = std::to_string(i);
  return info;
}

void write_shard(const std::filesystem::path& folder, int rank, const std::vector<TensorPlace>& tensors,
                 FlatInterval interval) {
  std::vector<std::vector<float>> flats;
  std::vector<FlatShard> shards;
  for (std::size_t group = 0; group < kGroups.size(); ++group) flats.push_back(make_flat(tensors, group));
  for (std::size_t group = 0; group < kGroups.size(); ++group) {
    shards.push_back({kGroups[group], std::span(flats[group])
                                          .subspan(static_cast<std::size_t>(interval.begin),
                                                   static_cast<std::size_t>(interval.end - interval.begin))});
  }
  write_checkpoint_shard(folder, rank, tensors, interval, shards);
}

std::filesystem::path write_checkpoint(const std::filesystem::path& final_folder,
                                       const std::vector<TensorPlace>& tensors,
                                       const std::vector<FlatInterval>& intervals) {
  std::filesystem::path temporary = final_folder;
  temporary += ".tmp";
  for (std::size_t rank = 0; rank < intervals.size(); ++rank) {
    write_shard(temporary, static_cast<int>(rank), tensors, intervals[rank]);
  }
  finish_checkpoint(temporary, final_folder, make_info(intervals.size()), tensors, intervals, kGroups);
  return final_folder;
}

std::vector<float> read_flat(const std::filesystem::path& folder, const std::string& group,
                             const std::vector<TensorPlace>& tensors,
                             const std::vector<FlatInterval>& intervals) {
  const std::int64_t size = std::ranges::max(intervals, {}, &FlatInterval::end).end;
  std::vector<float> flat(static_cast<std::size_t>(size));
  const CheckpointReader reader(folder);
  for (const FlatInterval& interval : intervals) {
    reader.read(group, tensors, interval,
                std::span(flat).subspan(static_cast<std::size_t>(interval.begin),
                                        static_cast<std::size_t>(interval.end - interval.begin)));
  }
  return flat;
}

/// A few small tensors, for the tests that go through a file byte by byte.
std::vector<TensorPlace> small_tensors() { return {{"a", {3, 2}, 0, 6}, {"b", {5}, 6, 5}}; }
const std::vector<FlatInterval> kSmallIntervals = {{0, 5}, {5, 11}};

// ---- writing and reading
// -----------------------------------------------------------------------------------------------

TEST(Checkpoint, IsReadOnAnyNumberOfRanksFromAnyOther) {
  const auto tensors = make_tensors();
  const std::int64_t size = tensors.back().offset + tensors.back().size;
  TemporaryFolder folder;
  for (const auto& written : partitions(size)) {
    write_checkpoint(folder / "step_000120", tensors, written);
    for (const auto& read : partitions(size)) {
      for (std::size_t group = 0; group < kGroups.size(); ++group) {
        EXPECT_EQ(read_flat(folder / "step_000120", kGroups[group], tensors, read), make_flat(tensors, group))
            << written.size() << " -> " << read.size() << " " << kGroups[group];
      }
    }
  }
}

TEST(Checkpoint, IsReadIntoAnotherLayoutOfTheSameTensors) {
  const auto tensors = make_tensors(3);
  const std::int64_t size = tensors.back().offset + tensors.back().size;
  TemporaryFolder folder;
  write_checkpoint(folder / "step_000120", tensors,
                   intervals_of({0, 36, 157'333, size}));  // a cut inside a gap
  std::vector<TensorPlace> reversed(tensors.rbegin(), tensors.rend());
  std::int64_t offset = 2;
  for (TensorPlace& tensor : reversed) {
    tensor.offset = offset;
    offset += tensor.size + 1;
  }
  const auto flat = read_flat(folder / "step_000120", "model", reversed, intervals_of({0, 60, offset}));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& place = reversed[tensors.size() - 1 - i];
    for (std::int64_t e = 0; e < place.size; ++e) {
      ASSERT_EQ(flat[static_cast<std::size_t>(place.offset + e)], value_of(0, i, e))
          << place.name << " " << e;
    }
  }
  EXPECT_EQ(flat[0], 0.0F);  // what belongs to no tensor
  EXPECT_EQ(flat.back(), 0.0F);
}

TEST(Checkpoint, TellsTheRun) {
  TemporaryFolder folder;
  write_checkpoint(folder / "c", small_tensors(), kSmallIntervals);
  const CheckpointInfo expected = make_info(2);
  const CheckpointReader reader(folder / "c");
  EXPECT_EQ(reader.info().step, expected.step);
  EXPECT_EQ(reader.info().world_size, expected.world_size);
  EXPECT_EQ(reader.info().seed, expected.seed);
  EXPECT_EQ(reader.info().configuration, expected.configuration);
  EXPECT_EQ(reader.info().git_revision, expected.git_revision);
  EXPECT_EQ(reader.info().state, expected.state);
}

TEST(Checkpoint, SameContentIsTheSameBytes) {
  TemporaryFolder folder;
  write_checkpoint(folder / "c", small_tensors(), kSmallIntervals);
  write_checkpoint(folder / "d", small_tensors(), kSmallIntervals);
  for (const std::string name : {"checkpoint.h5", "shard_00000.h5", "shard_00001.h5"}) {
    EXPECT_EQ(bytes_of(folder / "c" / name), bytes_of(folder / "d" / name)) << name;
  }
}

TEST(Checkpoint, TakesThePlaceOfAnOlderOneAndOfLeftovers) {
  TemporaryFolder folder;
  auto tensors = small_tensors();
  write_checkpoint(folder / "c", tensors, kSmallIntervals);
  write_shard(folder / "c.tmp", 7, tensors, {0, 11});  // an interrupted attempt on more ranks
  set_bytes(folder / "c.tmp/shard_00009.h5.tmp", "half");
  write_checkpoint(folder / "c", tensors, {{0, 11}});
  EXPECT_EQ(CheckpointReader(folder / "c").info().world_size, 1);
  EXPECT_FALSE(std::filesystem::exists(folder / "c.tmp"));
  const std::filesystem::directory_iterator entries(folder / "c");
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 2);
}

TEST(Checkpoint, RanksMayBeThreads) {
  const auto tensors = make_tensors();
  const std::int64_t size = tensors.back().offset + tensors.back().size;
  const auto intervals = partitions(size)[3];
  TemporaryFolder folder;
  const auto on_all_ranks = [&](const std::function<void(std::size_t)>& work) {
    std::vector<std::thread> ranks;
    for (std::size_t rank = 0; rank < intervals.size(); ++rank) ranks.emplace_back(work, rank);
    for (auto& rank : ranks) rank.join();
  };
  on_all_ranks([&](std::size_t rank) {
    write_shard(folder / "c.tmp", static_cast<int>(rank), tensors, intervals[rank]);
  });
  finish_checkpoint(folder / "c.tmp", folder / "c", make_info(intervals.size()), tensors, intervals, kGroups);
  std::vector<std::vector<float>> read(intervals.size());
  on_all_ranks([&](std::size_t rank) {
    read[rank] = read_flat(folder / "c", "model", tensors, intervals_of({0, size}));
  });
  for (const auto& flat : read) EXPECT_EQ(flat, make_flat(tensors, 0));
}

TEST(Checkpoint, ACallersMistakeIsToldBeforeItIsStored) {
  TemporaryFolder folder;
  const auto tensors = small_tensors();
  const std::vector<float> values(11, 1.0F), few(3, 1.0F);
  const auto write = [&](const std::vector<TensorPlace>& places, std::span<const float> own) {
    return [=, &folder] {
      write_checkpoint_shard(folder / "c.tmp", 0, places, {0, 11}, std::vector<FlatShard>{{"model", own}});
    };
  };
  expect_refused<std::invalid_argument>(write(tensors, few), {"model", "3 values"});
  expect_refused<std::invalid_argument>(write({{"a/b", {11}, 0, 11}}, values), {"a/b"});
  expect_refused<std::invalid_argument>(write({{"a", {2}, 0, 2}, {"a", {2}, 2, 2}}, values), {"\"a\""});
  expect_refused<std::invalid_argument>(write({{"a", {2}, 0, 3}}, values), {"a", "[2]"});

  std::vector<float> with_nan = values;
  with_nan[7] = std::numeric_limits<float>::quiet_NaN();
  expect_refused<std::runtime_error>(write(tensors, with_nan), {"shard_00000.h5", "/model/b", "not finite"});
  EXPECT_FALSE(std::filesystem::exists(folder / "c.tmp/shard_00000.h5"));

  write_shard(folder / "c.tmp", 0, tensors, {0, 5});
  write_shard(folder / "c.tmp", 1, tensors, {6, 11});
  const auto finish = [&](const std::vector<FlatInterval>& intervals, const CheckpointInfo& info) {
    return [=, &folder, &tensors] {
      finish_checkpoint(folder / "c.tmp", folder / "c", info, tensors, intervals, kGroups);
    };
  };
  expect_refused<std::invalid_argument>(finish({{0, 5}, {6, 11}}, make_info(2)), {"gap", "a"});
  expect_refused<std::invalid_argument>(finish({{0, 11}}, make_info(2)), {"world size 2"});
  expect_refused<std::runtime_error>(finish({{0, 5}, {5, 11}}, make_info(2)),
                                     {"shard_00001.h5", "another interval"});
  CheckpointInfo taken = make_info(1);
  taken.state["seed"] = "7";
  expect_refused<std::invalid_argument>(finish({{0, 11}}, taken), {"seed"});
  EXPECT_FALSE(std::filesystem::exists(folder / "c"));
}

// ---- others read it too
// ------------------------------------------------------------------------------------------------

/// Every tensor whole and in slices, from another working directory, after the folder was moved.
constexpr const char* kReadWithH5py = R"(
import sys, h5py, numpy as np
shapes = [("model.embed_tokens.weight", (7, 5)), ("model.layers.0.norm.weight", (3,)),
          ("model.layers.0.mlp.weight", (2, 3, 4)), ("score.weight", (1, 1)),
          ("model.layers.1.large.weight", (523, 601)), ("empty", (0, 4)), ("last", (2, 3, 2, 3))]
for path in sys.argv[1:]:
    with h5py.File(path, "r") as f:
        for g, group in enumerate(["model", "optimizer/first_moment", "optimizer/second_moment"]):
            assert len(f[group]) == len(shapes)
            for t, (name, shape) in enumerate(shapes):
                d = f[group][name]
                size = int(np.prod(shape))
                expected = (g * 5000000 + t * 400000 + 1 + np.arange(size)).astype("f4").reshape(shape)
                assert d.shape == shape and d.dtype == "<f4", (name, d.shape, d.dtype)
                assert np.array_equal(d[...], expected), (group, name)
                if size:
                    assert np.array_equal(d[-1:], expected[-1:]), name
                    assert np.array_equal(d[..., 0], expected[..., 0]), name
                    assert np.array_equal(d[..., ::2], expected[..., ::2]), name
        a = f.attrs
        assert a["format_version"] == 1 and a["complete"] == 1 and a["step"] == 120
        assert a["seed"] == 0xfedcba9876543210 and a["git_revision"] == "0123abc" and a["beta"] == "0.1"
        assert a["configuration"].startswith("name: quickstart # \u00e9\n")
print("ok")
)";

TEST(Checkpoint, ShowsEachTensorWholeToH5py) {
  if (!have_h5py()) GTEST_SKIP() << "no h5py for /usr/bin/python3";
  const auto tensors = make_tensors();
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "elsewhere");
  std::string files;
  int count = 0;
  for (const auto& intervals : partitions(tensors.back().offset + tensors.back().size)) {
    const std::string name = "checkpoint_" + std::to_string(++count);
    write_checkpoint(folder / name, tensors, intervals);
    std::filesystem::rename(folder / name, folder / "elsewhere" / name);
    files += (folder / "elsewhere" / name / "checkpoint.h5").string() + " ";
  }
  EXPECT_EQ(run_python(kReadWithH5py, files), "ok\n");
}

TEST(Checkpoint, AMissingShardShowsAsNotANumber) {
  if (!have_h5py()) GTEST_SKIP() << "no h5py for /usr/bin/python3";
  TemporaryFolder folder;
  write_checkpoint(folder / "c", small_tensors(), kSmallIntervals);
  std::filesystem::remove(folder / "c/shard_00001.h5");
  EXPECT_EQ(run_python("import sys, h5py, numpy as np\n"
                       "d = h5py.File(sys.argv[1], 'r')['model/a'][...].ravel()\n"
                       "print(np.isnan(d).tolist())\n",
                       (folder / "c/checkpoint.h5").string()),
            "[False, False, False, False, False, True]\n");
}

// ---- damage
// ------------------------------------------------------------------------------------------------------------

class DamagedCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    write_checkpoint(folder_ / "c", tensors_, kSmallIntervals);
    descriptors_ = open_descriptors();
  }
  void TearDown() override {
    EXPECT_EQ(open_descriptors(), descriptors_);
    EXPECT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
  }
  std::filesystem::path file(const std::string& name) const { return folder_ / "c" / name; }
  void read_all() const {
    for (std::size_t group = 0; group < kGroups.size(); ++group) {
      EXPECT_EQ(read_flat(folder_ / "c", kGroups[group], tensors_, {{0, 11}}), make_flat(tensors_, group));
    }
  }
  void refused(const std::vector<std::string>& parts) const {
    expect_refused<InputError>([&] { read_all(); }, parts);
  }
  TemporaryFolder folder_;
  std::vector<TensorPlace> tensors_ = small_tensors();
  std::size_t descriptors_ = 0;
};

TEST_F(DamagedCheckpoint, AbsentOrNotHdf5) {
  expect_refused<InputError>([&] { CheckpointReader(folder_ / "d"); }, {"d/checkpoint.h5", "no such file"});
  set_bytes(file("checkpoint.h5"), "something else");
  refused({"checkpoint.h5", "not an HDF5 file"});
}

TEST_F(DamagedCheckpoint, MissingShard) {
  std::filesystem::remove(file("shard_00001.h5"));
  refused({"shard_00001.h5", "missing"});
}

TEST_F(DamagedCheckpoint, TruncatedAnywhere) {
  for (const std::string name : {"checkpoint.h5", "shard_00000.h5", "shard_00001.h5"}) {
    const std::string whole = bytes_of(file(name));
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{7}, std::size_t{100}, whole.size() / 2, whole.size() - 1}) {
      set_bytes(file(name), whole.substr(0, length));
      refused({name});
    }
    set_bytes(file(name), whole);
  }
  read_all();
}

/// Each byte of the tensors themselves: found, and the tensor and its file named.
TEST_F(DamagedCheckpoint, FlippedByteInATensorIsNamed) {
  const std::string name = "shard_00001.h5", whole = bytes_of(file(name));
  const std::vector<float> piece = {value_of(1, 1, 0), value_of(1, 1, 1)};  // of /optimizer/first_moment/b
  const std::size_t place = whole.find(std::string(reinterpret_cast<const char*>(piece.data()), 8));
  ASSERT_NE(place, std::string::npos);
  for (std::size_t i = 0; i < 8; ++i) {
    std::string flipped = whole;
    flipped[place + i] = static_cast<char>(flipped[place + i] ^ 0x10);
    set_bytes(file(name), flipped);
    refused({name, "/optimizer/first_moment/b", "Fletcher32"});
  }
}

/// Any byte of any file: found, or without any effect on what is read (HDF5 leaves unused room in its files).
TEST_F(DamagedCheckpoint, FlippedByteAnywhereNeverChangesWhatIsRead) {
  const CheckpointInfo info = make_info(2);
  int found = 0;
  for (const std::string name : {"checkpoint.h5", "shard_00000.h5"}) {
    const std::string whole = bytes_of(file(name));
    for (std::size_t i = 0; i < std::min<std::size_t>(whole.size(), 8192); i += 23) {
      std::string flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ 0xff);
      set_bytes(file(name), flipped);
      try {
        read_all();
        const CheckpointReader reader(folder_ / "c");
        EXPECT_EQ(reader.info().configuration, info.configuration) << name << " " << i;
        EXPECT_EQ(reader.info().state, info.state) << name << " " << i;
        EXPECT_EQ(reader.info().seed, info.seed) << name << " " << i;
      } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("/c/")) << name << " " << i;
        ++found;
      }
    }
    set_bytes(file(name), whole);
  }
  EXPECT_GT(found, 100);
}

/// Writes checkpoint.h5 anew with other root attributes and no tensors.
void rewrite_attributes(const std::filesystem::path& path, const Attributes& attributes) {
  Hdf5Writer writer(path);
  writer.set_attributes("/", attributes);
  writer.commit(Hdf5Writer::Seal::kYes);
}

TEST_F(DamagedCheckpoint, OtherVersionOrIncomplete) {
  rewrite_attributes(file("checkpoint.h5"), {{"format_version", std::int64_t{2}}});
  refused({"checkpoint.h5", "format_version 2"});
  rewrite_attributes(file("checkpoint.h5"),
                     {{"format_version", std::int64_t{1}}, {"complete", std::int64_t{0}}});
  refused({"checkpoint.h5", "complete"});
  rewrite_attributes(file("checkpoint.h5"), {{"complete", std::int64_t{1}}});
  refused({"checkpoint.h5", "not a checkpoint"});
}

TEST_F(DamagedCheckpoint, ShardOfAnotherCheckpoint) {
  write_checkpoint(folder_ / "d", tensors_, {{0, 4}, {4, 11}});
  std::filesystem::copy_file(folder_ / "d/shard_00000.h5", file("shard_00000.h5"),
                             std::filesystem::copy_options::overwrite_existing);
  refused({"shard_00000.h5"});
}

TEST_F(DamagedCheckpoint, OtherTensorsThanTheModels) {
  const auto read = [&](const std::string& group, const std::vector<TensorPlace>& tensors) {
    return [=, this] { read_flat(folder_ / "c", group, tensors, {{0, 11}}); };
  };
  expect_refused<InputError>(read("model", {{"a", {3, 2}, 0, 6}}),
                             {"checkpoint.h5", "/model/b", "not in this model"});
  expect_refused<InputError>(read("model", {{"a", {3, 2}, 0, 6}, {"b", {5}, 6, 5}, {"c", {1}, 11, 1}}),
                             {"checkpoint.h5", "/model/c", "missing"});
  expect_refused<InputError>(read("model", {{"a", {2, 3}, 0, 6}, {"b", {5}, 6, 5}}),
                             {"/model/a", "[3, 2]", "expected [2, 3]"});
  expect_refused<InputError>(read("adapter", tensors_), {"checkpoint.h5", "/adapter"});
}

// ---- a full disk
// -------------------------------------------------------------------------------------------------------

TEST(FullDiskCheckpoint, EveryShardSizeFailsCleanlyAndLeavesTheOlderOne) {
  TemporaryFolder folder;
  const auto tensors = small_tensors();
  write_checkpoint(folder / "c", tensors, kSmallIntervals);
  const std::string before = bytes_of(folder / "c/shard_00000.h5");
  const std::size_t descriptors = open_descriptors();
  for (std::size_t room = 0; room < before.size(); room += 97) {
    const FullDisk disk(room);
    expect_refused<std::runtime_error>([&] { write_shard(folder / "c.tmp", 0, tensors, kSmallIntervals[0]); },
                                       {"c.tmp/shard_00000.h5", "File too large"});
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder / "c.tmp"));
  EXPECT_EQ(read_flat(folder / "c", "model", tensors, {{0, 11}}), make_flat(tensors, 0));
  write_checkpoint(folder / "c", tensors, kSmallIntervals);  // and once there is room again, all is well
  EXPECT_EQ(bytes_of(folder / "c/shard_00000.h5"), before);
}

TEST(FullDiskCheckpoint, WhenOnlyTheIndexDoesNotFitTheOlderOneStays) {
  TemporaryFolder folder;
  const auto tensors = small_tensors();
  write_checkpoint(folder / "c", tensors, kSmallIntervals);
  for (int rank = 0; rank < 2; ++rank)
    write_shard(folder / "c.tmp", rank, tensors, kSmallIntervals[static_cast<std::size_t>(rank)]);
  {
    const FullDisk disk(5000);
    expect_refused<std::runtime_error>(
        [&] {
          finish_checkpoint(folder / "c.tmp", folder / "c", make_info(2), tensors, kSmallIntervals, kGroups);
        },
        {"checkpoint.h5", "File too large"});
  }
  EXPECT_EQ(read_flat(folder / "c", "model", tensors, {{0, 11}}), make_flat(tensors, 0));
}

/// The same on a file system that really is full, where mounting a small one is allowed: in a process of its
/// own, whose mounts nobody else sees.
TEST(FullDiskCheckpoint, ARealOne) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "disk");
  constexpr int kNoMount = 77, kAsExpected = 0, kOtherwise = 1;
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", (folder / "disk").c_str(), "tmpfs", 0, "size=3m") != 0) {
      _exit(kNoMount);
    }
    const auto tensors = make_tensors();
    const std::int64_t size = tensors.back().offset + tensors.back().size;
    write_checkpoint(folder / "disk/a", small_tensors(), kSmallIntervals);
    try {
      write_shard(folder / "disk/b.tmp", 0, tensors, {0, size});  // 3.8 MB
    } catch (const std::runtime_error& error) {
      const bool told = std::string(error.what()).find("b.tmp/shard_00000.h5: cannot write: No space left") !=
                        std::string::npos;
      const bool whole =
          read_flat(folder / "disk/a", "model", small_tensors(), {{0, 11}}) == make_flat(small_tensors(), 0);
      _exit(told && whole ? kAsExpected : kOtherwise);
    }
    _exit(kOtherwise);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNoMount) GTEST_SKIP() << "not allowed to mount a small file system";
  EXPECT_EQ(WEXITSTATUS(status), kAsExpected);
}

// ---- the folder of checkpoints
// -----------------------------------------------------------------------------------------

TEST(CheckpointFolder, ListsTheCompleteOnesInOrder) {
  TemporaryFolder folder;
  EXPECT_EQ(checkpoint_name(120), "step_000120");
  EXPECT_TRUE(list_checkpoints(folder / "absent").empty());
  for (const std::int64_t step : {std::int64_t{1'000'000}, std::int64_t{20}, std::int64_t{999'999}}) {
    write_checkpoint(folder / checkpoint_name(step), small_tensors(), kSmallIntervals);
  }
  std::filesystem::create_directory(folder / "step_000030.tmp");
  std::filesystem::create_directory(folder / "step_000040");  // without checkpoint.h5
  std::filesystem::create_directory(folder / "step_x");
  set_bytes(folder / "step_000050", "a file");
  EXPECT_EQ(list_checkpoints(folder.path()),
            (std::vector{folder / "step_000020", folder / "step_999999", folder / "step_1000000"}));
}

TEST(CheckpointFolder, PruningKeepsTheNewestAndNoLeftovers) {
  TemporaryFolder folder;
  for (const int step : {1, 2, 3})
    write_checkpoint(folder / checkpoint_name(step), small_tensors(), kSmallIntervals);
  write_shard(folder / "step_000004.tmp", 0, small_tensors(), {0, 11});
  set_bytes(folder / "notes.tmp", "somebody's");
  prune_checkpoints(folder.path(), 2);
  EXPECT_EQ(list_checkpoints(folder.path()), (std::vector{folder / "step_000002", folder / "step_000003"}));
  EXPECT_FALSE(std::filesystem::exists(folder / "step_000004.tmp"));
  EXPECT_TRUE(std::filesystem::exists(folder / "notes.tmp"));
  prune_checkpoints(folder.path(), 5);
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 2U);
}

TEST(CheckpointFolder, PruningKeepsEveryMthForGood) {
  TemporaryFolder folder;
  for (const int step : {2, 4, 6, 8, 9})  // 9: where a run was stopped
    write_checkpoint(folder / checkpoint_name(step), small_tensors(), kSmallIntervals);
  prune_checkpoints(folder.path(), 1, 4);
  EXPECT_EQ(list_checkpoints(folder.path()),
            (std::vector{folder / "step_000004", folder / "step_000008", folder / "step_000009"}));
}

TEST(CheckpointFolder, SizeIsForeseen) {
  TemporaryFolder folder;
  const auto tensors = make_tensors();
  for (const auto& intervals : partitions(tensors.back().offset + tensors.back().size)) {
    write_checkpoint(folder / "c", tensors, intervals);
    std::int64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "c"))
      bytes += static_cast<std::int64_t>(entry.file_size());
    const std::int64_t foreseen = checkpoint_bytes(tensors, kGroups.size(), intervals.size());
    EXPECT_GE(foreseen, bytes) << intervals.size();
    EXPECT_LE(foreseen, bytes * 1.2) << intervals.size();
  }
}

}  // namespace
}  // namespace infalign::storage
