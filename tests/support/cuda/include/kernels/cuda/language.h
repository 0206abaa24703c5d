// kernels/cuda/language.h as read by a C++ compiler without CUDA: found first, by the order of include
// folders. A thread of a block is a fiber (block.h), so shared memory, barriers and shuffles have their full
// meaning.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>
// After those: their keywords expand to nothing outside nvcc, or to what g++ does not know.
#include <cuda_bf16.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>

#include "kernels/cuda/check.h"
#include "kernels/device.h"
#include "support/cuda/block.h"
#include "support/cuda/queue.h"

#undef __launch_bounds__
#define __launch_bounds__(...)

#define threadIdx (::infalign::host_cuda::here().thread)
#define blockIdx (::infalign::host_cuda::here().block)
#define blockDim (::infalign::host_cuda::here().block_size)
#define gridDim (::infalign::host_cuda::here().grid_size)

#define INFALIGN_HOST_SITE \
  ::infalign::host_cuda::Site { __FILE__, __LINE__ }
#define __syncthreads() ::infalign::host_cuda::sync_threads(INFALIGN_HOST_SITE)
#define __syncwarp() ::infalign::host_cuda::sync_warp(INFALIGN_HOST_SITE)
#define __shfl_xor_sync(mask, value, other)                                                    \
  ::infalign::host_cuda::shuffle(mask, value, ::infalign::host_cuda::lane() ^ unsigned(other), \
                                 INFALIGN_HOST_SITE)
#define __shfl_down_sync(mask, value, by)                                                   \
  ::infalign::host_cuda::shuffle(mask, value, ::infalign::host_cuda::lane() + unsigned(by), \
                                 INFALIGN_HOST_SITE)
#define __ballot_sync(mask, holds) ::infalign::host_cuda::ballot(mask, holds, INFALIGN_HOST_SITE)

// A type name of its own, so that [8][32] can stand behind the name.
#define INFALIGN_SHARED(type, name, ...)                                  \
  typedef type infalign_type_of_##name __VA_ARGS__;                       \
  static const char infalign_tag_of_##name = 0;                           \
  infalign_type_of_##name& name = *static_cast<infalign_type_of_##name*>( \
      ::infalign::host_cuda::shared_memory(&infalign_tag_of_##name, sizeof(infalign_type_of_##name)))
// NOLINTBEGIN(bugprone-macro-parentheses): a type cannot stand in them
#define INFALIGN_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::infalign::host_cuda::dynamic_shared_memory())
// NOLINTEND(bugprone-macro-parentheses)

inline int __ffs(int bits) { return __builtin_ffs(bits); }

template <class T>
T atomicAdd(T* to, std::type_identity_t<T> value) {
  return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
inline unsigned atomicMax(unsigned* to, unsigned value) {
  unsigned seen = __atomic_load_n(to, __ATOMIC_RELAXED);
  while (seen < value &&
         !__atomic_compare_exchange_n(to, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return seen;
}

using std::isfinite;

namespace infalign::host_cuda {

/// Queues kernel(values...).
template <class... Parameters>
cudaError_t queue_call(cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                       std::size_t shared, const std::tuple<Parameters...>& values) {
  std::apply(
      [](auto... value) {
        (__builtin_clear_padding(&value), ...);  // which may hold anything
        (check_argument(&value, sizeof value), ...);
      },
      values);
  return queue_kernel(stream, grid, block, shared, [kernel, values] { std::apply(kernel, values); });
}

}  // namespace infalign::host_cuda

namespace infalign::kernels::cuda {

template <class... Parameters, class... Arguments>
void launch(const Stream& on, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  check(host_cuda::queue_call(static_cast<cudaStream_t>(on.queue()), kernel, grid, block, shared,
                              std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)),
        "the launch of a kernel");
}

}  // namespace infalign::kernels::cuda
