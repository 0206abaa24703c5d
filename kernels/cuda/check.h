// Every call into CUDA is guarded by one of these, which name it.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace infalign::kernels::cuda {

/// Errors: std::runtime_error "CUDA: WHAT: its reason".
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status) + " (" +
                           cudaGetErrorName(status) + ")");
}

}  // namespace infalign::kernels::cuda
