// A kernel that is sound, one that lacks a barrier, one that reads beyond a shared array, each on several
// blocks: built under a sanitizer, which has to be silent about the first and to name the line of the others.
#include <cstdio>
#include <cstring>

#include "kernels/cuda/language.h"

namespace {

using namespace infalign;

constexpr unsigned kThreads = 64, kBlocks = 4;
float out[kBlocks * kThreads];

template <bool kBarrier>
void turn_by_half() {
  INFALIGN_SHARED(float, memory, [kThreads]);
  memory[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (kBarrier) __syncthreads();
  const float other = memory[(threadIdx.x + kThreads / 2) % kThreads];
  out[blockIdx.x * kThreads + threadIdx.x] = __shfl_xor_sync(0xffffffffu, other, 1);
}

void read_beyond() {
  INFALIGN_SHARED(float, memory, [kThreads]);
  memory[threadIdx.x] = 0;
  const volatile float* last = memory + kThreads - 1;
  out[threadIdx.x] = last[threadIdx.x == 0 ? 1 : 0];
}

}  // namespace

int main(int, char** arguments) {
  const char* which = arguments[1];
  const auto kernel = std::strcmp(which, "sound") == 0             ? turn_by_half<true>
                      : std::strcmp(which, "without_barrier") == 0 ? turn_by_half<false>
                                                                   : read_beyond;
  for (int launch = 0; launch < 3; ++launch) host_cuda::run_grid(dim3(kBlocks), dim3(kThreads), 128, kernel);
  std::puts("done");
}
