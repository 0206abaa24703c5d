// Sums down the columns of a matrix whose entries are computed: gradients of weights that all rows share.
// Blocks of rows are summed in ascending order, then the blocks in ascending order.
#pragma once

#include "kernels/cuda/each.h"
#include "kernels/cuda/scratch.h"

namespace infalign::kernels::cuda {

inline constexpr std::int64_t kRowBlock = 64;

template <class Term>
struct PartialColumnSums {
  Term term;
  std::int64_t rows, columns;
  float* partial;  // [blocks of rows, columns]
  __device__ void operator()(std::int64_t block, std::int64_t column) const {
    const std::int64_t begin = block * kRowBlock;
    const std::int64_t end = begin + kRowBlock < rows ? begin + kRowBlock : rows;
    float sum = 0;
    for (std::int64_t row = begin; row < end; ++row) sum += term(row, column);
    partial[block * columns + column] = sum;
  }
};

struct JoinColumnSums {
  std::int64_t blocks, columns;
  const float* partial;
  float* sum;
  __device__ void operator()(std::int64_t column) const {
    float joined = sum[column];
    for (std::int64_t block = 0; block < blocks; ++block) joined += partial[block * columns + column];
    sum[column] = joined;
  }
};

/// sum[column] += the sum over rows of term(row, column).
template <class Term>
void add_column_sums(const Stream& on, std::int64_t rows, std::int64_t columns, const Term& term,
                     float* sum) {
  const std::int64_t blocks = pieces(rows, kRowBlock);
  const Scratch<float> partial(on, blocks * columns);
  for_each_entry(on, blocks, columns, PartialColumnSums<Term>{term, rows, columns, partial.data()});
  for_each_index(on, columns, JoinColumnSums{blocks, columns, partial.data(), sum});
}

}  // namespace infalign::kernels::cuda
