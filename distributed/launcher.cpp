#include "distributed/launcher.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "distributed/communicator.h"

namespace infalign::distributed {
namespace {

struct Names {
  const char* rank;
  const char* ranks;
  const char* local_ranks;
};

constexpr Names kLaunchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE"},
};

std::optional<int> rank_number(const char* text) {
  if (text == nullptr) return std::nullopt;
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < 0) return std::nullopt;
  return value;
}

}  // namespace

Launch launch_from(const std::function<const char*(const char*)>& variable) {
  for (const Names& names : kLaunchers) {
    const std::optional<int> rank = rank_number(variable(names.rank));
    const std::optional<int> ranks = rank_number(variable(names.ranks));
    if (rank && ranks && *rank < *ranks) return {*rank, ranks, rank_number(variable(names.local_ranks))};
  }
  if (const std::optional<int> rank = rank_number(variable("PMIX_RANK")))
    return {*rank, std::nullopt, std::nullopt};
  return {0, 1, 1};
}

Launch launch() {
  return launch_from([](const char* name) -> const char* { return std::getenv(name); });
}

bool started_by_launcher() { return launch().several(); }

int launcher_rank() { return launch().rank; }

}  // namespace infalign::distributed
