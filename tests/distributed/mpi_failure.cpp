// Run under mpirun: rank 1 fails while the others wait for it in a collective; none may be left waiting.
//   throw    the handler calls abort(3)
//   unwind   the exception destroys the communicator; the program then returns 3
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "distributed/communicator.h"

namespace {

using namespace infalign::distributed;

void fail_on_rank_1(Communicator& ranks) {
  ranks.barrier();
  if (ranks.rank() == 1) throw std::runtime_error("rank 1 fails after " + to_string(ranks.last_collective()));
  std::vector<double> values(3);
  ranks.all_reduce_sum(std::span(values));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "throw") {
    const auto ranks = make_mpi(&argc, &argv);
    try {
      fail_on_rank_1(*ranks);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ranks->abort(3);
    }
    return 4;  // not reached
  }
  try {
    const auto ranks = make_mpi(&argc, &argv);
    fail_on_rank_1(*ranks);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
  return 4;
}
