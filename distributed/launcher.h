// What the environment tells about who started this process, before MPI is touched. It decides whether MPI is
// touched at all: a single process must not need a working MPI, and one of many must not take itself
// for a single one.
#pragma once

#include <functional>
#include <optional>

namespace infalign::distributed {

struct Launch {
  int rank = 0;
  std::optional<int> ranks;        // none: a launcher was there, but does not say how many it started
  std::optional<int> local_ranks;  // of them on this host

  bool several() const { return !ranks || *ranks > 1; }
};

/// Reads an environment through `variable` (std::getenv, or a test's). The first of these that is complete
/// counts: Open MPI's mpirun, a PMI launcher (Hydra, Intel), a Slurm step, a bare PMIx server; no launcher is
/// 1 rank. A Slurm batch script itself has SLURM_PROCID and SLURM_NTASKS too, so it is a step's own size that
/// says whether this is a step.
Launch launch_from(const std::function<const char*(const char*)>& variable);

/// That of this process.
Launch launch();

}  // namespace infalign::distributed
