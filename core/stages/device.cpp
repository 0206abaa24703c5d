#include "core/stages/device.h"

#include <array>
#include <chrono>
#include <span>

#include "core/error.h"
#include "core/stages/precision.h"
#include "distributed/machine.h"

namespace infalign::stages {
namespace {

// How long ranks wait for each other in a collective of GPUs. Ranks that hang are the watchdog's; this is for
// what it cannot see, such as a link between GPUs.
constexpr auto kLongestWait = std::chrono::minutes(30);

void require_gpu() {
  if (kernels::cuda_device_count() == 0)
    throw ConfigurationError(
        "device: cuda: there is no GPU that this process can use (none here, no driver, or a build without "
        "the CUDA back end; docs/gpu.md); use cpu or auto");
}

/// Why the ranks cannot have a GPU each; "" if they can, and then `index` is this rank's. Collective.
std::string shortage(distributed::Communicator& ranks, int& index) {
  const int here = kernels::cuda_device_count(), rank = distributed::rank_on_machine(ranks);
  std::array<double, 1> lacking{here == 0 ? 1.0 : 0.0};
  ranks.all_reduce_max(lacking);
  if (lacking[0] > 0) return ranks.size() == 1 ? "no GPU here" : "a rank without a GPU";
  index = rank % here;  // launchers may show each rank the one GPU that is meant for it
  return distributed::same_on_a_machine(ranks, kernels::cuda_device_identity(index))
             ? "more ranks than GPUs on a machine"
             : "";
}

/// Collective.
void require_one_machine(distributed::Communicator& ranks, distributed::Communicator& group) {
  std::array<double, 1> apart{distributed::rank_on_machine(group) == group.rank() ? 0.0 : 1.0};
  ranks.all_reduce_max(apart);
  if (apart[0] > 0)
    throw ConfigurationError(
        "distributed.sharding: 3: GPUs that hold a model among them read each other's memory, so they have "
        "to be on one machine; set distributed.shard_ranks to the ranks of a machine, or use sharding: 2");
}

}  // namespace

kernels::Stream open_device(const std::string& device) {
  if (device == "cuda") require_gpu();
  const bool on_gpu = device != "cpu" && kernels::cuda_device_count() > 0;
  return on_gpu ? kernels::Stream(kernels::Device::kCuda) : kernels::Stream();
}

RunDevice open_device(const experiment::Experiment& experiment, distributed::Communicator& ranks,
                      const distributed::ShardGroups& groups) {
  if (experiment.device == "cpu" || experiment.synthetic) return {.words = "CPU"};
  int index = 0;
  const std::string lack = shortage(ranks, index);
  const bool is_asked_for = experiment.device == "cuda";
  if (!lack.empty() && is_asked_for)
    throw ConfigurationError("device: cuda: " + lack + "; start as many ranks on a machine as it has GPUs");
  if (!lack.empty()) return {.words = "CPU (device: auto; " + lack + ")"};
  if (experiment.distributed.sharding > 2) require_one_machine(ranks, groups.group());
  RunDevice device{.on = kernels::Stream(kernels::Device::kCuda, index),
                   .words = ranks.size() == 1 ? "GPU" : "a GPU each"};
  if (!is_asked_for) device.words += " (device: auto)";
  if (ranks.size() > 1) device.collectives = distributed::make_nccl(groups.owners(), kLongestWait);
  if (groups.copies() != nullptr) device.of_copies = distributed::make_nccl(*groups.copies(), kLongestWait);
  return device;
}

void require_hardware(const experiment::Experiment& experiment) {
  if (experiment.device == "cuda") require_gpu();
  const bool may_use_gpu = experiment.device != "cpu" && kernels::cuda_device_count() > 0;
  if (precision(experiment) == kernels::Precision::kBfloat16 && !may_use_gpu && !kernels::has_bfloat16())
    throw ConfigurationError(
        "dtype: bfloat16 needs a processor with AVX-512 BF16 or AMX, which this one has not; use float32");
}

}  // namespace infalign::stages
