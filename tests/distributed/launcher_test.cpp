#include "distributed/launcher.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "distributed/communicator.h"

namespace infalign::distributed {
namespace {

using Environment = std::map<std::string, std::string>;

Launch launch_in(const Environment& environment) {
  return launch_from([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Launch, WithoutALauncherIsOneRank) {
  const Launch launch = launch_in({});
  EXPECT_FALSE(launch.several());
  EXPECT_EQ(launch.rank, 0);
}

TEST(Launch, ReadsOpenMpi) {
  const Launch launch = launch_in({{"OMPI_COMM_WORLD_RANK", "3"},
                                   {"OMPI_COMM_WORLD_SIZE", "4"},
                                   {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                                   {"PMIX_RANK", "3"}});
  EXPECT_TRUE(launch.several());
  EXPECT_EQ(launch.rank, 3);
  EXPECT_EQ(launch.ranks, 4);
  EXPECT_EQ(launch.local_ranks, 2);
}

TEST(Launch, OfOneRankIsNotSeveral) {
  EXPECT_FALSE(launch_in({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_RANK", "0"}})
                   .several());
}

TEST(Launch, ReadsHydra) {
  const Launch launch = launch_in({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALNRANKS", "2"}});
  EXPECT_TRUE(launch.several());
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.local_ranks, 2);
}

TEST(Launch, ReadsASlurmStep) {
  const Launch launch = launch_in({{"SLURM_PROCID", "5"},
                                   {"SLURM_NTASKS", "8"},
                                   {"SLURM_STEP_ID", "0"},
                                   {"SLURM_STEP_NUM_TASKS", "8"},
                                   {"PMIX_RANK", "5"}});
  EXPECT_TRUE(launch.several());
  EXPECT_EQ(launch.rank, 5);
  EXPECT_EQ(launch.ranks, 8);
}

TEST(Launch, DoesNotTakeABatchScriptForAStep) {
  EXPECT_FALSE(launch_in({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "17"}}).several());
}

TEST(Launch, OfMpirunCountsInsideASlurmStep) {
  // mpirun starts its daemons as a Slurm step, whose variables its processes inherit.
  const Launch launch = launch_in({{"OMPI_COMM_WORLD_RANK", "1"},
                                   {"OMPI_COMM_WORLD_SIZE", "6"},
                                   {"SLURM_PROCID", "0"},
                                   {"SLURM_STEP_NUM_TASKS", "2"}});
  EXPECT_EQ(launch.rank, 1);
  EXPECT_EQ(launch.ranks, 6);
}

TEST(Launch, LeavesTheCountToMpiUnderABarePmixServer) {
  const Launch launch = launch_in({{"PMIX_RANK", "2"}});
  EXPECT_TRUE(launch.several());
  EXPECT_EQ(launch.rank, 2);
  EXPECT_FALSE(launch.ranks.has_value());
}

TEST(Launch, IgnoresWhatIsNoNumber) {
  for (const char* rank : {"", "x", "1x", "-1", "4"})
    EXPECT_FALSE(launch_in({{"OMPI_COMM_WORLD_RANK", rank}, {"OMPI_COMM_WORLD_SIZE", "4"}}).several())
        << rank;
}

TEST(MakeMpi, IsLocalWithoutALauncher) {
  if (started_by_launcher()) GTEST_SKIP() << "this test program was itself started by a launcher";
  EXPECT_EQ(make_mpi(nullptr, nullptr)->size(), 1);
  EXPECT_EQ(launcher_rank(), 0);
}

}  // namespace
}  // namespace infalign::distributed
