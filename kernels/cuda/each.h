// Kernels of which each thread has its own entries and needs no other thread: they are given as a functor.
#pragma once

#include "kernels/cuda/language.h"

namespace infalign::kernels::cuda {

inline constexpr std::int64_t kEachThreads = 256;
/// Entries of one block: four a thread, whose reads are under way together.
inline constexpr std::int64_t kEachBlock = 4 * kEachThreads;

inline unsigned as_grid(std::int64_t blocks) { return static_cast<unsigned>(blocks); }
constexpr std::int64_t pieces(std::int64_t n, std::int64_t piece) { return (n + piece - 1) / piece; }
/// Threads for a row of so many entries: whole warps, at most `most`.
constexpr unsigned row_threads(std::int64_t entries, std::int64_t most = kEachThreads) {
  const std::int64_t whole = pieces(entries < 1 ? 1 : entries, 32) * 32;
  return static_cast<unsigned>(whole < most ? whole : most);
}

template <class Body>
__global__ void __launch_bounds__(kEachThreads) each_index(std::int64_t n, Body body) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kEachBlock + threadIdx.x;
#pragma unroll
  for (std::int64_t i = first; i < first + kEachBlock; i += kEachThreads)
    if (i < n) body(i);
}

/// body(i) for i in [0, n).
template <class Body>
void for_each_index(const Stream& on, std::int64_t n, const Body& body) {
  launch(on, each_index<Body>, as_grid(pieces(n, kEachBlock)), kEachThreads, 0, n, body);
}

template <class Body>
__global__ void __launch_bounds__(kEachThreads) each_entry(std::int64_t columns, Body body) {
  const std::int64_t row = blockIdx.x, first = std::int64_t{blockIdx.y} * kEachBlock;
  for (std::int64_t column = first + threadIdx.x; column < columns && column < first + kEachBlock;
       column += blockDim.x)
    body(row, column);
}

/// body(row, column) for all entries of [rows, columns], without a division for each.
template <class Body>
void for_each_entry(const Stream& on, std::int64_t rows, std::int64_t columns, const Body& body) {
  launch(on, each_entry<Body>, dim3(as_grid(rows), as_grid(pieces(columns, kEachBlock))),
         row_threads(columns), 0, columns, body);
}

}  // namespace infalign::kernels::cuda
