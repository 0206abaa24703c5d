// Stands in the place of operations.cu where the build has no CUDA back end.
#include "kernels/cuda/operations.h"

namespace infalign::kernels {

const CudaOperations* cuda_operations() { return nullptr; }

}  // namespace infalign::kernels
