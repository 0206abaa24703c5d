// Run under mpirun with any number of ranks: every collective case, with messages whole and cut into small
// pieces, and a training run of the sharded optimizer that must give the bits of one rank. Ends with 0 if all
// ranks agree that all is well; else with 1, having named on standard error what is not.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "distributed/collective_cases.h"
#include "distributed/communicator.h"
#include "distributed/optimizer_run.h"

namespace {

using namespace infalign::distributed;

void check_launch(Communicator& ranks) {
  testing::expect(ranks, ranks.size() == 1 || started_by_launcher(),
                  "several ranks were started by a launcher");
  testing::expect(ranks, launcher_rank() == ranks.rank(), "the launcher's rank is MPI's");
}

void check_optimizer(Communicator& ranks) {
  for (const std::int64_t parameters : {1, 5000, 9 * 1024 + 17}) {
    const testing::OptimizerRun run{.parameters = parameters};
    const auto alone = testing::whole_run(*make_local(), run);
    testing::expect(ranks, testing::whole_run(ranks, run) == alone, "many ranks give the bits of one");
    for (const Sharding stage :
         {Sharding::kNothing, Sharding::kOptimizer, Sharding::kGradients, Sharding::kParameters}) {
      const testing::OptimizerRun sharded{.parameters = parameters, .sharding = stage, .in_layers = true};
      testing::expect(ranks, testing::whole_run(ranks, sharded) == alone,
                      "stage " + std::to_string(static_cast<int>(stage)) + " gives the bits of one rank");
      testing::OptimizerRun narrow = sharded;
      narrow.narrow = true;
      testing::expect(ranks, testing::whole_run(ranks, narrow) == testing::whole_run(*make_local(), narrow),
                      "so it does where passes read a copy in bfloat16");
    }
    if (ranks.size() % 2 == 0) {
      const testing::OptimizerRun hybrid{
          .parameters = parameters, .sharding = Sharding::kParameters, .group = 2, .in_layers = true};
      testing::expect(ranks, testing::whole_run(ranks, hybrid) == alone,
                      "a copy of the parameters in every two ranks gives the bits of one rank");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto ranks = make_mpi(&argc, &argv);
  std::string at = "the launch";
  try {
    if (argc == 2)
      testing::expect(*ranks, ranks->size() == std::atoi(argv[1]), "as many ranks as were asked for");
    check_launch(*ranks);
    const auto in_pieces = make_mpi(&argc, &argv, {.largest_message = 3});
    for (Communicator* communicator : {ranks.get(), in_pieces.get()}) {
      for (const auto& collective : testing::kCollectiveCases) {
        at = collective.name;
        collective.run(*communicator);
      }
    }
    at = "sharded_optimizer";
    check_optimizer(*ranks);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", at.c_str(), error.what());
    ranks->abort(1);
    return 1;
  }
  return 0;
}
