// The place of nccl.cpp in a build without CUDA.
#include <stdexcept>

#include "distributed/device_collectives.h"

namespace infalign::distributed {

std::unique_ptr<DeviceCollectives> make_nccl(Communicator&, std::chrono::milliseconds) {
  throw std::runtime_error("this build has no CUDA back end, and with it no NCCL");
}

}  // namespace infalign::distributed
