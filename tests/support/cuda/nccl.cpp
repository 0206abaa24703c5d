// The part of NCCL that distributed/nccl.cpp calls, against the toolkit's own header. A communicator spans
// the whole of MPI_COMM_WORLD. Calls on a non-blocking one are under way (ncclInProgress) for two looks at
// it.
#include <nccl.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include "support/cuda/nccl.h"
#include "support/cuda/queue.h"

struct ncclComm {
  MPI_Comm ranks = MPI_COMM_NULL;
  bool blocking = true;
  int looks = 0;  // until what was begun is done
};

namespace infalign::host_cuda {
namespace {

int error = ncclSuccess;
int grouped = 0;

MPI_Datatype type_of(ncclDataType_t type) {
  return type == ncclFloat32 ? MPI_FLOAT : type == ncclInt64 ? MPI_INT64_T : MPI_UINT64_T;
}
std::size_t size_of(ncclDataType_t type) { return type == ncclFloat32 ? 4 : 8; }

bool known(ncclDataType_t type) { return type == ncclFloat32 || type == ncclInt64 || type == ncclUint64; }

ncclResult_t begun(ncclComm_t communicator) {
  if (communicator->blocking) return ncclSuccess;
  communicator->looks = 2;
  return ncclInProgress;
}

template <class Work>
ncclResult_t queue(ncclComm_t communicator, ncclDataType_t type, cudaStream_t stream,
                   std::initializer_list<const void*> memory, Work work) {
  if (!known(type)) return ncclInvalidArgument;
  for (const void* address : memory)
    if (address != nullptr && !is_device_memory(address)) return ncclInvalidArgument;
  queue_work(stream, std::move(work), true);
  return grouped > 0 ? ncclSuccess : begun(communicator);
}

}  // namespace

void stall_collectives() { set_stalled(true); }
void fail_collectives(int with) {
  error = with;
  set_stalled(true);
}
void mend_collectives() {
  error = ncclSuccess;
  set_stalled(false);
}

}  // namespace infalign::host_cuda

using namespace infalign::host_cuda;

extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::memset(id, 7, sizeof *id);
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited or there was a network error" : "an NCCL error";
}
const char* ncclGetLastError(ncclComm_t) { return "the stand-in's"; }

ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  int begun_already = 0, world = 0, own = 0;
  MPI_Initialized(&begun_already);  // not by one rank alone
  if (begun_already == 0) {
    MPI_Init(nullptr, nullptr);
    std::atexit([] { MPI_Finalize(); });
  }
  MPI_Comm_size(MPI_COMM_WORLD, &world);
  MPI_Comm_rank(MPI_COMM_WORLD, &own);
  if (size != world || rank != own || id.internal[0] != 7) return ncclInvalidArgument;
  *communicator = new ncclComm;
  MPI_Comm_dup(MPI_COMM_WORLD, &(*communicator)->ranks);
  (*communicator)->blocking = config->blocking != 0;
  return begun(*communicator);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* state) {
  *state = error != ncclSuccess        ? static_cast<ncclResult_t>(error)
           : communicator->looks-- > 0 ? ncclInProgress
                                       : ncclSuccess;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  drop_ordered_work();
  MPI_Comm_free(&communicator->ranks);
  delete communicator;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  ++grouped;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  --grouped;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t communicator, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return queue(communicator, type, stream, {from, to}, [=, ranks = communicator->ranks] {
    const auto* bytes = static_cast<const char*>(from);
    const std::vector<char> copy(bytes, bytes + count * size_of(type));
    MPI_Allreduce(copy.data(), to, static_cast<int>(count), type_of(type), MPI_SUM, ranks);
  });
}
ncclResult_t ncclReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                        int root, ncclComm_t communicator, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return queue(communicator, type, stream, {from, to}, [=, ranks = communicator->ranks] {
    MPI_Reduce(from, to, static_cast<int>(count), type_of(type), MPI_SUM, root, ranks);
  });
}
ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  if (from != to) return ncclInvalidArgument;
  return queue(communicator, type, stream, {to}, [=, ranks = communicator->ranks] {
    MPI_Bcast(to, static_cast<int>(count), type_of(type), root, ranks);
  });
}
ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t communicator, cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return queue(communicator, type, stream, {from, to}, [=, ranks = communicator->ranks] {
    MPI_Reduce_scatter_block(from, to, static_cast<int>(count), type_of(type), MPI_SUM, ranks);
  });
}
ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  return queue(communicator, type, stream, {from, to}, [=, ranks = communicator->ranks] {
    const auto* bytes = static_cast<const char*>(from);
    const std::vector<char> copy(bytes, bytes + count * size_of(type));
    MPI_Allgather(copy.data(), static_cast<int>(count), type_of(type), to, static_cast<int>(count),
                  type_of(type), ranks);
  });
}

}  // extern "C"
