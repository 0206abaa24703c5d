// The tensor cores' products of small matrices in bfloat16, instructions that C++ has no word for. A warp
// calls these functions together. It holds a matrix in fragments, which are spread over its lanes as the PTX
// ISA lays down under mma.m16n8k16: a lane's registers hold pairs of neighbours in a row of the left factor
// [16, 16] and in a column of the right one [16, 8], and four sums of the product [16, 8]. With group = lane
// / 4 and pair = 2 (lane % 4), these are
//   left:  rows group and group + 8 from column pair, then both from column pair + 8;
//   right: column group from row pair, then from row pair + 8;
//   sum:   row group, columns pair and pair + 1, then row group + 8, the same columns.
#pragma once

#include "kernels/cuda/language.h"
#include "kernels/linear/bfloat16.h"

namespace infalign::kernels::cuda {

/// Two numbers rounded to bfloat16, the first in the lower half.
__device__ inline std::uint32_t bfloat16_pair(float first, float second) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

/// Four 8 by 8 matrices from shared memory, one to each register: lane i says where row i % 8 of matrix i / 8
/// begins, at a multiple of 16 bytes, and gets columns pair and pair + 1 of row `group` of each.
__device__ inline void load_matrices(const Bfloat16* row, std::uint32_t (&matrices)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// The same transposed: rows pair and pair + 1 of column `group` of each.
__device__ inline void load_transposed(const Bfloat16* row, std::uint32_t (&matrices)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// sum += left x right, of which `right` and `right_below` are the two registers.
__device__ inline void multiply_add(const std::uint32_t (&left)[4], std::uint32_t right,
                                    std::uint32_t right_below, float (&sum)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right), "r"(right_below));
}

}  // namespace infalign::kernels::cuda
