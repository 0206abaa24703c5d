// The part of NCCL that distributed/nccl.cpp calls, against the toolkit's own header. Calls on a non-blocking
// one are under way (ncclInProgress) for two looks at it.
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

/// What an ncclUniqueId says here.
struct Id {
  int made_by = 0;  // in MPI_COMM_WORLD
  int number = 0;   // of those made there
};

int own_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

/// The processes that form a communicator, in its order. They meet at its first.
MPI_Comm communicator_of(const Id& id, int rank, int size) {
  const int tag = 10'000 + id.number;
  std::vector<int> members(static_cast<std::size_t>(size), own_rank());
  if (rank == 0) {
    for (int other = 1; other < size; ++other) {
      int told[2] = {};
      MPI_Recv(told, 2, MPI_INT, MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      members[static_cast<std::size_t>(told[0])] = told[1];
    }
    for (int other = 1; other < size; ++other)
      MPI_Send(members.data(), size, MPI_INT, members[static_cast<std::size_t>(other)], tag, MPI_COMM_WORLD);
  } else {
    const int told[2] = {rank, own_rank()};
    MPI_Send(told, 2, MPI_INT, id.made_by, tag, MPI_COMM_WORLD);
    MPI_Recv(members.data(), size, MPI_INT, id.made_by, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  MPI_Group world = MPI_GROUP_NULL, group = MPI_GROUP_NULL;
  MPI_Comm formed = MPI_COMM_NULL;
  MPI_Comm_group(MPI_COMM_WORLD, &world);
  MPI_Group_incl(world, size, members.data(), &group);
  MPI_Comm_create_group(MPI_COMM_WORLD, group, tag, &formed);
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  return formed;
}

int error = ncclSuccess;
int grouped = 0;

MPI_Datatype type_of(ncclDataType_t type) {
  switch (type) {
    case ncclBfloat16:  // carried only
      return MPI_UINT16_T;
    case ncclFloat32:
      return MPI_FLOAT;
    case ncclInt64:
      return MPI_INT64_T;
    default:
      return MPI_UINT64_T;
  }
}
std::size_t size_of(ncclDataType_t type) { return type == ncclBfloat16 ? 2 : type == ncclFloat32 ? 4 : 8; }

bool known(ncclDataType_t type) {
  return type == ncclBfloat16 || type == ncclFloat32 || type == ncclInt64 || type == ncclUint64;
}

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
  static int made = 0;
  int ready = 0;
  MPI_Initialized(&ready);
  const Id own{.made_by = ready != 0 ? own_rank() : 0, .number = ++made};
  std::memset(id, 0, sizeof *id);
  std::memcpy(id, &own, sizeof own);
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited or there was a network error" : "an NCCL error";
}
const char* ncclGetLastError(ncclComm_t) { return "the stand-in's"; }

ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  int begun_already = 0;
  MPI_Initialized(&begun_already);  // not by one rank alone
  if (begun_already == 0) {
    MPI_Init(nullptr, nullptr);
    std::atexit([] { MPI_Finalize(); });
  }
  Id given;
  std::memcpy(static_cast<void*>(&given), &id, sizeof given);
  if (given.number == 0) return ncclInvalidArgument;
  *communicator = new ncclComm;
  (*communicator)->ranks = communicator_of(given, rank, size);
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
