// Work split over the threads of this rank. Kernels split outputs, never a reduction, so that no result
// depends on the number of threads. The threads are OpenMP's, which oneDNN shares.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace infalign::kernels {

/// Calls body(begin, end) on disjoint intervals that cover [0, n), at most one for each thread, each a
/// multiple of `grain` items long but the last. One call on the calling thread when there is too little to
/// share, or when the caller is already one of several threads.
template <class Body>
void parallel_for(std::int64_t n, std::int64_t grain, Body&& body) {
  const std::int64_t pieces =
      std::min<std::int64_t>(omp_in_parallel() ? 1 : omp_get_max_threads(), (n + grain - 1) / grain);
  if (pieces <= 1) {
    if (n > 0) body(std::int64_t{0}, n);
    return;
  }
  const std::int64_t grains = (n + grain - 1) / grain;
#pragma omp parallel for num_threads(static_cast <int>(pieces)) schedule(static, 1)
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    const std::int64_t begin = grains * piece / pieces * grain;
    const std::int64_t end = std::min(n, grains * (piece + 1) / pieces * grain);
    if (begin < end) body(begin, end);
  }
}

}  // namespace infalign::kernels
