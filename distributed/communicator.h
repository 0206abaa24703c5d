// Ranks and what they do together. Four implementations behind one interface: Local (one rank, nothing initialised), Threads (ranks as
// threads of one process, for tests), Mpi (processes, host memory); Nccl (device memory) comes with the GPU back end.
// Every rank calls the same collectives in the same order, whatever its data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace infalign::distributed {

/// Half-open interval of a flat buffer.
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

/// Contiguous shares of [0, n), one per rank, in rank order; borders at multiples of `granularity`; sizes differ by at most one grain.
std::vector<Interval> shares(std::int64_t n, int ranks, std::int64_t granularity = 1);

/// Thrown in a collective because another rank has failed; the cause is reported by that rank.
class PeerFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool root() const { return rank() == 0; }

  virtual void barrier() = 0;
  virtual void broadcast(std::span<std::byte> data, int from) = 0;

  /// Element-wise over ranks, in place; sums of integers are exact, of floats in rank order only where stated.
  virtual void all_reduce_sum(std::span<std::uint64_t> values) = 0;
  virtual void all_reduce_sum(std::span<std::int64_t> values) = 0;
  virtual void all_reduce_sum(std::span<double> values) = 0;
  virtual void all_reduce_max(std::span<double> values) = 0;

  /// The sum over ranks of `values`, of which this rank keeps intervals[rank()] in `mine`.
  virtual void reduce_scatter_sum(std::span<const float> values, std::span<const Interval> intervals,
                                  std::span<float> mine) = 0;
  virtual void reduce_scatter_sum(std::span<const std::int64_t> values, std::span<const Interval> intervals,
                                  std::span<std::int64_t> mine) = 0;

  /// Each rank gives intervals[rank()] of `values`; afterwards all have the whole.
  virtual void all_gather(std::span<float> values, std::span<const Interval> intervals) = 0;
  virtual void all_gather(std::span<double> values, std::span<const Interval> intervals) = 0;

  /// Byte strings of any length from every rank, in rank order, on all ranks.
  virtual std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine) = 0;

  /// Ends all ranks with this exit code; does not return on process-based implementations.
  virtual void abort(int exit_code) = 0;
};

/// Rank 0 of 1.
std::unique_ptr<Communicator> make_local();

/// The processes that mpirun or srun started; Local when there is none. Initialises MPI (once) and finalises it at the end.
std::unique_ptr<Communicator> make_mpi(int* argc, char*** argv);

/// True if the environment says that mpirun, srun or the like started this process as one of several ranks.
bool started_by_launcher();

/// The rank among the launcher's processes as the environment tells it before MPI is initialised; 0 when there is no launcher.
int launcher_rank();

/// Runs body(communicator) on `ranks` threads and waits. When one throws, the collectives of the others throw PeerFailed, and the first cause is rethrown here.
void run_threads(int ranks, const std::function<void(Communicator&)>& body);

/// Gathers one trivially copyable vector per rank, concatenated in rank order.
template <class T>
std::vector<T> all_gather_concatenated(Communicator& communicator, std::span<const T> mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all;
  for (const auto& bytes : communicator.all_gather_bytes(std::as_bytes(mine))) {
    const auto* begin = reinterpret_cast<const T*>(bytes.data());
    all.insert(all.end(), begin, begin + bytes.size() / sizeof(T));
  }
  return all;
}

}  // namespace infalign::distributed
