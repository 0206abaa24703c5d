// How kernels are written here. They are launched by `launch`, and declare what a block shares by the two
// macros; they use a small part of CUDA:
//   - no early return before a later barrier or shuffle; shuffles name all 32 lanes;
//   - whatever one thread hands to another through shared memory has a barrier between, within a warp too;
//   - reductions in a fixed order, no atomic additions of floats: the same bits from run to run;
//   - bfloat16 is storage: values are converted and computed with in float32, but for the factors of products
//     in tensor cores;
//   - instructions that C++ has no word for stand in tensor_cores.h alone.
// So the same source can be read by any C++ compiler that is given these few words in another sense.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/check.h"
#include "kernels/device.h"

/// A variable of the block: INFALIGN_SHARED(float, sums, [32]);
#define INFALIGN_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
/// The block's memory whose size the launch gives, as a pointer: INFALIGN_DYNAMIC_SHARED(float, tile);
#define INFALIGN_DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(16) unsigned char infalign_dynamic_shared_[]; \
  type* const name = reinterpret_cast<type*>(infalign_dynamic_shared_)

namespace infalign::kernels::cuda {

/// Queues kernel(arguments...) with so many bytes of dynamic shared memory; nothing for an empty grid.
/// Errors: std::runtime_error if the launch is refused.
template <class... Parameters, class... Arguments>
void launch(const Stream& on, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  constexpr std::size_t kWithoutAsking = 48 << 10;
  if (shared > kWithoutAsking)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "cudaFuncSetAttribute");
  kernel<<<grid, block, shared, static_cast<cudaStream_t>(on.queue())>>>(
      static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), "the launch of a kernel");
}

}  // namespace infalign::kernels::cuda
