// Kernels over values of either type: each is a template of what they are stored in.
#pragma once

#include "kernels/cuda/language.h"
#include "kernels/values.h"

namespace infalign::kernels::cuda {

__device__ inline float widened(float value) { return value; }
__device__ inline float widened(Bfloat16 value) { return from_bfloat16(value); }

__device__ inline void put(float& to, float value) { to = value; }
__device__ inline void put(Bfloat16& to, float value) { to = to_bfloat16(value); }

/// run.template operator()<T>() for the type T that values are stored in.
template <class Run>
void with_stored(Precision stored, Run run) {
  if (stored == Precision::kBfloat16)
    run.template operator()<Bfloat16>();
  else
    run.template operator()<float>();
}

}  // namespace infalign::kernels::cuda
