// Reading another process's memory over MPI while it computes. MPI's own one-sided calls would do, but Open
// MPI 4 has none that work over TCP once several threads may call MPI, and elsewhere they make progress only
// while the other rank happens to be inside MPI. So each rank has a thread that answers requests: it asks for
// them every few microseconds where one came lately, else five thousand times a second.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "distributed/communicator.h"

namespace infalign::distributed {

/// Of one process; lives as long as anything is published.
class MpiFetch {
 public:
  /// `communicator` is an MPI_Comm as an integer (MPI_Comm_c2f). Collective.
  MpiFetch(int communicator, std::int64_t largest_message);
  /// Ends the thread; requests that come later have no answer.
  ~MpiFetch();
  MpiFetch(const MpiFetch&) = delete;
  MpiFetch& operator=(const MpiFetch&) = delete;

  /// Number of what is published next, the same on all ranks that publish in the same order.
  int add(std::span<const std::byte> mine);
  void remove(int number);
  /// Bytes of what a rank gave under a number, and where they go.
  struct Wanted {
    Interval theirs;
    std::byte* to = nullptr;
  };
  /// From each rank its entry of `wanted`, from all at the same time. For one thread of a number at a time.
  void fetch(int number, std::span<const std::vector<Wanted>> wanted);

 private:
  void serve();
  void answer(int rank, int length);  // of its request

  int communicator_;
  std::int64_t largest_;
  std::mutex lock_;
  std::vector<std::span<const std::byte>> published_;  // by number
  std::atomic<bool> ended_ = false;
  std::thread server_;
};

/// Collective.
std::unique_ptr<Published> publish_over_mpi(std::shared_ptr<MpiFetch> fetch, int rank,
                                            std::span<const std::byte> mine,
                                            std::span<const Interval> intervals);

}  // namespace infalign::distributed
