// NCCL on the CPU, over MPI: what tests set. Its collectives are queued on streams as the real ones are, and
// run in the order in which they were queued, whatever their streams.
#pragma once

namespace infalign::host_cuda {

/// From here on, this rank's collectives neither end nor fail, as when another rank never comes, until the
/// communicator is aborted.
void stall_collectives();
/// From here on, the communicator has this asynchronous error (ncclRemoteError, 6, is that of a rank lost).
void fail_collectives(int error);
/// Both no longer.
void mend_collectives();

}  // namespace infalign::host_cuda
