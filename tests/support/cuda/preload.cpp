// What the code calls that nvcc makes of a kernel and its launch. With the other stand-ins this is a library
// that is preloaded into a program as nvcc built it, so that all of its host code runs without a GPU. The
// program registers its kernels by name, and their twins are launched instead.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include "support/cuda/twin.h"

/// A kernel of the program.
struct CUkern_st {
  const char* name = "that was not registered";
  int most_shared = 48 << 10;  // until more is asked for
};

namespace infalign::host_cuda {

std::unordered_map<std::string, Launch>& twins() {
  static std::unordered_map<std::string, Launch> all;
  return all;
}

namespace {

/// By the address of its host function.
CUkern_st& kernel_at(const void* host) {
  static std::unordered_map<const void*, CUkern_st> all;
  return all[host];
}

/// Of a launch, from its <<<>>> to its call.
struct Configuration {
  dim3 grid, block;
  std::size_t shared = 0;
  cudaStream_t stream = nullptr;
};
thread_local Configuration configuration;

[[noreturn]] void refuse(const CUkern_st& kernel, const char* why) {
  std::fprintf(stderr, "the kernel %s %s\n", kernel.name, why);
  std::abort();
}

}  // namespace
}  // namespace infalign::host_cuda

using infalign::host_cuda::configuration;
using infalign::host_cuda::kernel_at;
using infalign::host_cuda::refuse;
using infalign::host_cuda::twins;

// NOLINTBEGIN(readability-identifier-naming): the names are nvcc's
extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* any = nullptr;
  return &any;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  kernel_at(host).name = name;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream) {
  configuration = {grid, block, shared, stream};
  return 0;  // go on to the call
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  *grid = configuration.grid;
  *block = configuration.block;
  *shared = configuration.shared;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  *kernel = &kernel_at(host);
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared, cudaStream_t stream) {
  const auto twin = twins().find(kernel->name);
  if (twin == twins().end()) refuse(*kernel, "has no twin");
  if (shared > static_cast<std::size_t>(kernel->most_shared))
    refuse(*kernel, "is launched with more shared memory than was asked for");
  return twin->second(stream, grid, block, shared, arguments);
}
cudaError_t cudaFuncSetAttribute(const void* host, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  kernel_at(host).most_shared = value;
  return cudaSuccess;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
