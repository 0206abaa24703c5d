// What every stage of a run shares: the experiment, the ranks, where the run stands (for messages), which
// stages are already done, and the polite stop. A stage is a free function of a Run.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/stages/time_limit.h"
#include "distributed/communicator.h"
#include "distributed/device_collectives.h"
#include "distributed/device_published.h"
#include "distributed/machine.h"
#include "distributed/shard_groups.h"
#include "distributed/watchdog.h"
#include "kernels/device.h"

namespace infalign::stages {

/// Seconds so far that parameters held by other ranks were under way, and that passes waited for them.
struct FetchTime {
  std::atomic<double> taken = 0, waited = 0;
};

struct Run {
  const experiment::Experiment& experiment;
  distributed::Communicator& ranks;
  /// Who holds which part of parameters that are sharded.
  distributed::ShardGroups groups{ranks, static_cast<int>(experiment.distributed.shard_ranks)};
  kernels::Stream on{};  // where it computes
  // Among GPUs: of groups.owners(), where there are several ranks, and of groups.copies(), if there are any.
  distributed::DeviceCollectives *collectives = nullptr, *of_copies = nullptr;
  std::shared_ptr<distributed::DevicePublisher> publisher{};  // of parameters that are sharded on GPUs
  std::shared_ptr<distributed::MachineMemory> machine{};      // of models that are never trained, on CPUs
  std::string where = "start";  // stage, variant and step, for the message of a rank that fails
  std::string revision = "unknown";
  bool progress = true;  // bars and log lines on the root rank
  distributed::Watchdog* watchdog = nullptr;
  TimeLimit time_limit{};
  std::set<std::string> logged{};  // by log_once
  std::shared_ptr<FetchTime> fetching = std::make_shared<FetchTime>();

  bool root() const { return ranks.root(); }

  /// The run stands here now.
  void at(std::string place);

  /// What `compute` returns on the root rank, on all ranks. A failure there brings all ranks down.
  std::string from_root(const std::function<std::string()>& compute) const;

  /// A stage's `product` stands when it exists and its record in `output/.stages/<key>.json` has this
  /// fingerprint of everything it was made from. Collective.
  bool is_done(const std::string& key, const std::string& fingerprint,
               const std::filesystem::path& product) const;
  void mark_done(const std::string& key, const std::string& fingerprint) const;

  /// True on all ranks once SIGTERM or SIGUSR1 has reached any of them, or the time limit is near on any. To
  /// be asked after each piece of work. Collective.
  bool stop_requested();
};

/// Has a thread of its own wait for SIGTERM and SIGUSR1; a second signal ends the process at once, unless it
/// comes within a second of the first: schedulers and launchers may both pass on the same request. To be
/// called before any other thread starts. No handler ever interrupts a computation: oneDNN's generated
/// products keep data where the frame of a signal handler would be written.
void listen_for_stop_signals();

/// Errors: ConfigurationError for an experiment that so many ranks cannot do.
void require_ranks(const experiment::Experiment& experiment, int ranks);

/// One line for the log of the root rank (standard error).
void log_line(const Run& run, const std::string& line);
/// The same for what several stages find out: said by the first.
void log_once(Run& run, const std::string& line);

/// The share of `count` micro-batches that this rank does: contiguous, in rank order, so that gathered
/// results stand in micro-batch order whatever the number of ranks.
distributed::Interval own_micro_batches(const Run& run, std::int64_t count);

/// Micro-batches of `size` that `items` are cut into; the last may be shorter.
inline std::int64_t micro_batch_count(std::int64_t items, std::int64_t size) {
  return (items + size - 1) / size;
}

/// Cuts `items` into micro-batches of `per_batch` and calls visit(micro-batch, their number over all ranks)
/// for this rank's share.
template <class Visit>
void for_own_micro_batches(const Run& run, std::span<const std::int64_t> items, std::int64_t per_batch,
                           Visit&& visit) {
  const auto batches = micro_batch_count(static_cast<std::int64_t>(items.size()), per_batch);
  const auto own = own_micro_batches(run, batches);
  for (auto b = own.begin; b < own.end; ++b) {
    const auto begin = static_cast<std::size_t>(b * per_batch);
    visit(items.subspan(begin, std::min(static_cast<std::size_t>(per_batch), items.size() - begin)), batches);
  }
}

/// Per-item values of each rank's share, gathered in order on all ranks: sums over them are the same on any
/// number of ranks.
template <class T>
std::vector<T> gather(const Run& run, const std::vector<T>& mine) {
  return distributed::all_gather_concatenated<T>(run.ranks, mine);
}

// The stages, in the order in which a run does them.
void finetune(Run& run);
void train_reward(Run& run);
void calibrate(Run& run);
void align(Run& run);
void evaluate(Run& run);
void report(Run& run);
void export_policies(Run& run);

/// The stages of the experiment in order, or only `stages`. What is done is not done again.
void run_stages(Run& run, const std::vector<experiment::Stage>& stages);

}  // namespace infalign::stages
