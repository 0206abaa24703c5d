#include "core/stages/background_checkpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

constexpr std::int64_t kSize = 5000;
const std::vector<storage::TensorPlace> kTensors = {{"a", {40, 100}, 0, 4000}, {"b", {1000}, 4000, 1000}};

/// The flat buffer of a step: element i is 10 i + step.
std::vector<float> values_of(std::int64_t step) {
  std::vector<float> values(kSize);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(10 * static_cast<std::int64_t>(i) + step);
  return values;
}

std::vector<float> read(const std::filesystem::path& checkpoint) {
  std::vector<float> values(kSize);
  storage::CheckpointReader(checkpoint).read("model", kTensors, {0, kSize}, values);
  return values;
}

/// What one rank does with checkpoints of one group.
class OneRank {
 public:
  OneRank(const experiment::Experiment& experiment, distributed::Communicator& ranks,
          const std::filesystem::path& folder)
      : run_{experiment, ranks},
        intervals_(distributed::shares(kSize, ranks.size())),
        own_(intervals_[static_cast<std::size_t>(ranks.rank())]),
        checkpoints_(run_, folder, kTensors, flat()) {}

  void begin(std::int64_t step, std::vector<float> whole) {
    const auto own =
        std::span(whole).subspan(static_cast<std::size_t>(own_.begin), static_cast<std::size_t>(own_.size()));
    storage::CheckpointInfo info;
    info.step = step;
    info.world_size = run_.ranks.size();
    checkpoints_.begin(info, std::vector<storage::FlatShard>{{"model", own}});
    std::ranges::fill(whole, -1.0f);  // training goes on
  }
  BackgroundCheckpoints& checkpoints() { return checkpoints_; }

 private:
  std::vector<storage::FlatInterval> flat() const {
    std::vector<storage::FlatInterval> flat;
    for (const auto& interval : intervals_) flat.push_back({interval.begin, interval.end});
    return flat;
  }
  Run run_;
  std::vector<distributed::Interval> intervals_;
  distributed::Interval own_;
  BackgroundCheckpoints checkpoints_;
};

class BackgroundCheckpointsTest : public ::testing::Test {
 protected:
  void on(int ranks, const std::function<void(OneRank&, distributed::Communicator&)>& body) {
    distributed::run_threads(ranks, [&](distributed::Communicator& communicator) {
      OneRank rank(experiment_, communicator, folder());
      body(rank, communicator);
    });
  }
  std::filesystem::path folder() const { return scratch_.path() / "checkpoints"; }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& path : storage::list_checkpoints(folder())) names.push_back(path.filename().string());
    return names;
  }
  ScratchFolder scratch_;
  experiment::Experiment experiment_;
};

TEST_F(BackgroundCheckpointsTest, HoldWhatWasThereWhenTheyBegan) {
  for (const int ranks : {1, 2, 3}) {
    on(ranks, [](OneRank& rank, distributed::Communicator&) {
      rank.begin(2, values_of(2));
      rank.checkpoints().finish();
    });
    EXPECT_EQ(read(folder() / "step_000002"), values_of(2)) << ranks;
    EXPECT_FALSE(std::filesystem::exists(folder() / "step_000002.tmp"));
  }
}

TEST_F(BackgroundCheckpointsTest, ComeInPlaceAtALaterStepWithoutWaiting) {
  on(3, [this](OneRank& rank, distributed::Communicator& ranks) {
    rank.begin(2, values_of(2));
    for (double there = 0; there == 0;) {  // steps that write none
      rank.checkpoints().poll();
      there = ranks.root() && !names().empty() ? 1 : 0;
      ranks.all_reduce_max(std::span(&there, 1));
    }
  });
  EXPECT_EQ(read(folder() / "step_000002"), values_of(2));
}

TEST_F(BackgroundCheckpointsTest, TheNextWaitsForTheOneBeforeAndOldOnesGo) {
  experiment_.checkpoint.every = 2;
  experiment_.checkpoint.keep = 1;
  experiment_.checkpoint.keep_every = 4;
  on(2, [](OneRank& rank, distributed::Communicator&) {
    for (const std::int64_t step : {2, 4, 6, 8, 10}) {
      rank.begin(step, values_of(step));
      rank.checkpoints().poll();
    }
    rank.checkpoints().finish();
  });
  EXPECT_THAT(names(), ::testing::ElementsAre("step_000004", "step_000008", "step_000010"));
  for (const std::int64_t step : {4, 8, 10})
    EXPECT_EQ(read(folder() / storage::checkpoint_name(step)), values_of(step));
}

TEST_F(BackgroundCheckpointsTest, AFailureIsToldAtALaterStepAndLeavesTheOneBefore) {
  for (const bool wait : {false, true}) {
    const auto fail = [&] {
      on(3, [&](OneRank& rank, distributed::Communicator& ranks) {
        rank.begin(2, values_of(2));
        auto values = values_of(4);
        values[2500] = std::numeric_limits<float>::quiet_NaN();  // in rank 1's interval
        rank.begin(4, values);
        for (;;) {
          if (wait) rank.checkpoints().finish();
          rank.checkpoints().poll();
          ranks.barrier();
        }
      });
    };
    try {
      fail();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("shard_00001.h5"));
      EXPECT_THAT(error.what(), ::testing::HasSubstr("not finite"));
    }
    EXPECT_THAT(names(), ::testing::ElementsAre("step_000002"));
    EXPECT_EQ(read(folder() / "step_000002"), values_of(2));
  }
}

TEST(FreeSpace, IsAskedForWithWhatThereIs) {
  EXPECT_NO_THROW(require_free_space("runs/a", 40, 1'500'000, 1'500'000));
  try {
    require_free_space("runs/a", 40, 1'500'000, 1'200'000);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(
        error.what(),
        "runs/a: the checkpoint of step 40 needs 1.5 MB, and the disk has 1.2 MB left; make room and "
        "start again. The checkpoint before it is whole");
  }
}

}  // namespace
}  // namespace infalign::stages
