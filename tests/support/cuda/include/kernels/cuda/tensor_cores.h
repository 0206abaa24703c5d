// kernels/cuda/tensor_cores.h as read by a C++ compiler without CUDA: each lane shows the others what it
// holds, and takes from the lanes that hold it, by the PTX ISA's layout, what its own results are made of.
#pragma once

#include <cstdlib>

#include "kernels/cuda/language.h"
#include "kernels/linear/bfloat16.h"

namespace infalign::kernels::cuda {

inline std::uint32_t bfloat16_pair(float first, float second) {
  return to_bfloat16(first) | static_cast<std::uint32_t>(to_bfloat16(second)) << 16;
}

/// Element (row, column) of the matrix whose row i begins where lane 8 * matrix + i says.
inline std::uint32_t element(const unsigned char* addresses, unsigned matrix, unsigned row, unsigned column) {
  const Bfloat16* begin = nullptr;
  std::memcpy(&begin, addresses + 64 * (8 * matrix + row), sizeof begin);
  return begin[column];
}

inline const unsigned char* meet_with_address(const Bfloat16* row, host_cuda::Site site) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) std::abort();  // as the instruction would
  return host_cuda::meet(0xffffffffu, &row, sizeof row, site);
}

inline void load_matrices(const Bfloat16* row, std::uint32_t (&matrices)[4],
                          host_cuda::Site site = {__builtin_FILE(), __builtin_LINE()}) {
  const unsigned char* addresses = meet_with_address(row, site);
  const unsigned group = host_cuda::lane() / 4, pair = 2 * (host_cuda::lane() % 4);
  for (unsigned i = 0; i < 4; ++i)
    matrices[i] = element(addresses, i, group, pair) | element(addresses, i, group, pair + 1) << 16;
}

inline void load_transposed(const Bfloat16* row, std::uint32_t (&matrices)[4],
                            host_cuda::Site site = {__builtin_FILE(), __builtin_LINE()}) {
  const unsigned char* addresses = meet_with_address(row, site);
  const unsigned group = host_cuda::lane() / 4, pair = 2 * (host_cuda::lane() % 4);
  for (unsigned i = 0; i < 4; ++i)
    matrices[i] = element(addresses, i, pair, group) | element(addresses, i, pair + 1, group) << 16;
}

inline void multiply_add(const std::uint32_t (&left)[4], std::uint32_t right, std::uint32_t right_below,
                         float (&sum)[4], host_cuda::Site site = {__builtin_FILE(), __builtin_LINE()}) {
  struct Factors {
    std::uint32_t left[4], right[2];
  };
  const Factors own{{left[0], left[1], left[2], left[3]}, {right, right_below}};
  const unsigned char* table = host_cuda::meet(0xffffffffu, &own, sizeof own, site);
  const auto number = [](std::uint32_t pair, unsigned which) {
    return from_bfloat16(static_cast<Bfloat16>(pair >> 16 * which));
  };
  const unsigned group = host_cuda::lane() / 4, pair = 2 * (host_cuda::lane() % 4);
  for (unsigned k = 0; k < 16; k += 2) {
    const unsigned inner = k % 8 / 2,
                   half = k / 8;  // who of four has rows k and k + 1, and in which register
    Factors of_row, of_column[2];
    std::memcpy(&of_row, table + 64 * (4 * group + inner), sizeof of_row);
    for (unsigned c = 0; c < 2; ++c)
      std::memcpy(&of_column[c], table + 64 * (4 * (pair + c) + inner), sizeof of_column[c]);
    for (unsigned which = 0; which < 2; ++which)
      for (unsigned i = 0; i < 4; ++i)
        sum[i] += number(of_row.left[i / 2 + 2 * half], which) * number(of_column[i % 2].right[half], which);
  }
}

}  // namespace infalign::kernels::cuda
