// The table of the CUDA back end.
#include "kernels/cuda/operations.h"

#include "kernels/cuda/runtime.h"

namespace infalign::kernels {

namespace cuda {
#define INFALIGN_ROW(operation) decltype(kernels::operation) operation;
INFALIGN_CUDA_OPERATIONS(INFALIGN_ROW)
#undef INFALIGN_ROW
}  // namespace cuda

const CudaOperations* cuda_operations() {
  static constexpr CudaOperations kOperations = {.device_count = cuda::device_count,
                                                 .device_identity = cuda::device_identity,
                                                 .open_queue = cuda::open_queue,
                                                 .close_queue = cuda::close_queue,
                                                 .synchronise = cuda::synchronise,
                                                 .allocate = cuda::allocate,
                                                 .release = cuda::release,
                                                 .allocate_pinned = cuda::allocate_pinned,
                                                 .release_pinned = cuda::release_pinned,
                                                 .allocate_shared = cuda::allocate_shared,
                                                 .release_shared = cuda::release_shared,
                                                 .handle_of_shared = cuda::handle_of_shared,
                                                 .open_shared = cuda::open_shared,
                                                 .close_shared = cuda::close_shared,
                                                 .copy = cuda::copy,
                                                 .fill_zero = cuda::fill_zero,
                                                 .create_event = cuda::create_event,
                                                 .destroy_event = cuda::destroy_event,
                                                 .record_event = cuda::record_event,
                                                 .wait_for_event = cuda::wait_for_event,
                                                 .synchronise_event = cuda::synchronise_event,
                                                 .begin_recording = cuda::begin_recording,
                                                 .abandon_recording = cuda::abandon_recording,
                                                 .end_recording = cuda::end_recording,
                                                 .replay = cuda::replay,
                                                 .destroy_recording = cuda::destroy_recording,
#define INFALIGN_ROW(operation) .operation = cuda::operation,
                                                 INFALIGN_CUDA_OPERATIONS(INFALIGN_ROW)
#undef INFALIGN_ROW
  };
  return &kOperations;
}

}  // namespace infalign::kernels
