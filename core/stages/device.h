// On what a run computes: the CPU, or a GPU for each rank, as `device` asks and the machines allow.
#pragma once

#include <memory>
#include <string>

#include "core/experiment/experiment.h"
#include "distributed/communicator.h"
#include "distributed/device_collectives.h"
#include "distributed/shard_groups.h"
#include "kernels/device.h"

namespace infalign::stages {

/// The device that a command of one process is to use, "auto", "cpu" or "cuda". Errors: ConfigurationError
/// for "cuda" where there is no GPU.
kernels::Stream open_device(const std::string& device);

/// Where the ranks of a run compute.
struct RunDevice {
  kernels::Stream on{};
  // Of several ranks on GPUs: of the groups' owners(), and of their copies(), if there are any.
  std::unique_ptr<distributed::DeviceCollectives> collectives{}, of_copies{};
  std::string words;  // for the log
};

/// The same on all ranks: each a GPU of its own, or the CPU. "auto" uses GPUs where every rank finds one, and
/// its words say why if it does not. Collective. Errors: ConfigurationError on all ranks for "cuda" without a
/// GPU for each, and for parameters that are sharded on GPUs of several machines.
RunDevice open_device(const experiment::Experiment& experiment, distributed::Communicator& ranks,
                      const distributed::ShardGroups& groups);

/// Before ranks exist. Errors: ConfigurationError for what no device of this process can do.
void require_hardware(const experiment::Experiment& experiment);

}  // namespace infalign::stages
