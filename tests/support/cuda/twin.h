// Kernels by the names under which a program that nvcc built registers them.
#pragma once

#include <functional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "kernels/cuda/language.h"

namespace infalign::host_cuda {

/// Queues a kernel whose arguments lie at these addresses.
using Launch =
    std::function<cudaError_t(cudaStream_t, dim3 grid, dim3 block, std::size_t shared, void** arguments)>;
std::unordered_map<std::string, Launch>& twins();

/// A kernel as g++ read it, in the place of the one that nvcc compiled; twins.py writes these.
struct Twin {
  template <class... Parameters>
  Twin(const char* name, void (*kernel)(Parameters...)) {
    twins()[name] = [kernel](cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared,
                             void** arguments) {
      const auto values = [arguments]<std::size_t... i>(std::index_sequence<i...>) {
        return std::tuple<Parameters...>(*static_cast<Parameters*>(arguments[i])...);
      }
      (std::index_sequence_for<Parameters...>());
      return queue_call(stream, kernel, grid, block, shared, values);
    };
  }
};

}  // namespace infalign::host_cuda
