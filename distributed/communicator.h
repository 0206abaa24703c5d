// Ranks and what they do together. Three implementations behind one interface: Local (one rank, nothing
// initialised), Threads (ranks as threads of one process, for tests) and Mpi (processes, host memory); Nccl
// (device memory) comes with the GPU back end. Every rank calls the same collectives in the same order,
// whatever its data; each call is numbered, so that what a rank was last in can always be named, and Threads
// checks that ranks agree.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace infalign::distributed {

/// Half-open interval of a flat buffer.
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Interval&) const = default;
};

/// Contiguous shares of [0, n), one per rank, in rank order; borders at multiples of `granularity`; sizes
/// differ by at most one grain, and are empty for some ranks where there are fewer grains than ranks.
std::vector<Interval> shares(std::int64_t n, int ranks, std::int64_t granularity = 1);

/// Thrown in a collective because another rank has failed; the cause is reported by that rank.
class PeerFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Ranks met in different collectives; the message names both calls. A mistake in the program.
class CollectiveMismatch : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

enum class Collective {
  kNone,
  kBarrier,
  kBroadcast,
  kAllReduceSum,
  kAllReduceMax,
  kReduceScatterSum,
  kAllGather,
  kAllGatherBytes,
  kSplit,
  kPublish,
};
enum class Element { kByte, kBfloat16, kFloat32, kFloat64, kInt64, kUint64 };
enum class Reduction { kSum, kMax };

std::size_t size_of(Element element);

/// What a collective is known by. All ranks' n-th calls are equal, or one of them took a wrong turn.
struct CollectiveCall {
  std::uint64_t sequence = 0;  // counts from 1; 0: no call yet
  Collective kind = Collective::kNone;
  Element element = Element::kByte;
  std::int64_t count = 0;  // elements of the whole; 0 for all_gather_bytes, whose ranks differ in size
  int from = 0;            // broadcast: the rank that gives
  bool operator==(const CollectiveCall&) const = default;
};

/// A flat buffer of which each rank holds an interval, to be read by all; counted in bytes. A rank copies
/// what it needs when it needs it, and the others call nothing for that: ranks that decode answers of
/// different lengths, or have different numbers of micro-batches, never have to agree on what comes next.
class Published {
 public:
  virtual ~Published() = default;
  /// Copies intervals of the whole, one after the other, into `out`. From any one thread at a time. Errors:
  /// std::runtime_error where the transport fails.
  virtual void fetch(std::span<const Interval> wanted, std::span<std::byte> out) = 0;
};

/// The pieces of `wanted` that lie in one rank's interval of a whole: visit(piece, place of it in `out`,
/// bytes behind its begin), for those that are not empty.
template <class Visit>
void for_pieces_within(std::span<const Interval> wanted, Interval within, Visit&& visit) {
  std::int64_t place = 0;
  for (const Interval& interval : wanted) {
    const Interval piece{std::max(interval.begin, within.begin), std::min(interval.end, within.end)};
    if (piece.begin < piece.end) visit(piece, place + piece.begin - interval.begin);
    place += interval.size();
  }
}

/// For people: "all_reduce_sum #17 (3 float64)".
std::string to_string(const CollectiveCall& call);

/// Collectives are called from the one thread that made the communicator; only last_collective() and
/// in_collective() from any.
/// Errors: std::invalid_argument where a rank's own arguments contradict each other; PeerFailed,
/// CollectiveMismatch; std::runtime_error naming the call where the transport fails.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool root() const { return rank() == 0; }

  void barrier();
  void broadcast(std::span<std::byte> data, int from);

  /// Element-wise over ranks, in place. Sums of integers are exact; float64 is folded in rank order, so a
  /// result has the same bits each time and on all ranks. A maximum is NaN where any rank has NaN.
  void all_reduce_sum(std::span<std::uint64_t> values);
  void all_reduce_sum(std::span<std::int64_t> values);
  void all_reduce_sum(std::span<double> values);
  void all_reduce_max(std::span<double> values);

  /// The sum over ranks of `values`, of which this rank keeps intervals[rank()] in `mine` (not part of
  /// `values`). The intervals cover `values` one after the other in rank order. On Mpi the order of float32
  /// additions is the library's; integers are exact everywhere.
  void reduce_scatter_sum(std::span<const float> values, std::span<const Interval> intervals,
                          std::span<float> mine);
  void reduce_scatter_sum(std::span<const std::int64_t> values, std::span<const Interval> intervals,
                          std::span<std::int64_t> mine);

  /// Each rank gives intervals[rank()] of `values`; afterwards all have the whole. In place.
  void all_gather(std::span<float> values, std::span<const Interval> intervals);
  void all_gather(std::span<double> values, std::span<const Interval> intervals);
  void all_gather(std::span<std::uint16_t> values, std::span<const Interval> intervals);  // bfloat16

  /// Byte strings of any length from every rank, in rank order, on all ranks.
  std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine);

  /// The ranks that give the same `group`, in the order of their ranks here, with collectives of their own
  /// that another thread may do at the same time as this one's. Where ranks are threads, a failure of this
  /// one reaches it too.
  std::unique_ptr<Communicator> split(int group);
  /// The same for the thread that uses this one, in the order of `order`, which is another on each rank: its
  /// collectives are numbered and timed here, as this one's. All ranks do all of them, each in its group.
  std::unique_ptr<Communicator> regroup(int group, int order);
  /// May different threads be in collectives of different communicators at once?
  virtual bool concurrent() const { return true; }

  /// Lets all ranks read this rank's `mine`, which is intervals[rank()] of a whole, in bytes. It stays where
  /// it is, and is changed only while nobody reads, that is between two collectives of all ranks; so too is
  /// the result destroyed only after a collective that follows the last fetch of every rank. Needs
  /// concurrent().
  std::unique_ptr<Published> publish(std::span<const std::byte> mine, std::span<const Interval> intervals);

  /// The collective this rank is in, or was last in. May be asked from another thread (a watchdog's).
  CollectiveCall last_collective() const;
  /// True while it is in it.
  bool in_collective() const { return record_->inside.load(std::memory_order_relaxed); }
  /// Seconds that this rank has spent in collectives so far: waiting for the others, and exchanging.
  double seconds_in_collectives() const { return record_->seconds; }

  /// Brings the other ranks down. On Mpi it ends every process with this exit code and does not return;
  /// elsewhere it returns, and the caller ends itself.
  virtual void abort(int exit_code) = 0;

 protected:
  Communicator() = default;

  /// Who does the collectives of ranks that were split off.
  enum class Caller { kThisThread, kAnother };

 private:
  // What an implementation provides; arguments are checked and the call is recorded before. Data is `count`
  // elements from an untyped pointer.
  virtual void do_barrier() = 0;
  virtual void do_broadcast(std::span<std::byte> data, int from) = 0;
  virtual void do_all_reduce(Reduction reduction, Element element, std::int64_t count, std::byte* values) = 0;
  virtual void do_reduce_scatter_sum(Element element, const std::byte* values,
                                     std::span<const Interval> intervals, std::byte* mine) = 0;
  virtual void do_all_gather(Element element, std::byte* values, std::span<const Interval> intervals) = 0;
  virtual std::vector<std::vector<std::byte>> do_all_gather_bytes(std::span<const std::byte> mine) = 0;
  virtual std::unique_ptr<Communicator> do_split(int group, int order, Caller caller) = 0;
  virtual std::unique_ptr<Published> do_publish(std::span<const std::byte> mine,
                                                std::span<const Interval> intervals) = 0;

  /// What one thread does.
  struct Record {
    mutable std::mutex mutex;
    CollectiveCall last;
    std::atomic<bool> inside = false;
    double seconds = 0;
  };

  /// A collective from its record to its end.
  class Call {
   public:
    explicit Call(Record& record, CollectiveCall call);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Record& record_;
    std::chrono::steady_clock::time_point start_;
  };
  [[nodiscard]] Call begin(Collective kind, Element element, std::int64_t count, int from = 0) {
    return Call(*record_, {0, kind, element, count, from});
  }
  template <class T>
  void all_reduce(Collective kind, Reduction reduction, std::span<T> values);
  template <class T>
  void reduce_scatter(std::span<const T> values, std::span<const Interval> intervals, std::span<T> mine);
  template <class T>
  void gather(std::span<T> values, std::span<const Interval> intervals);

  std::shared_ptr<Record> record_ = std::make_shared<Record>();
};

/// Rank 0 of 1.
std::unique_ptr<Communicator> make_local();

struct MpiOptions {
  /// Elements in one message; more travel in pieces. MPI counts in int, and may copy what it is given.
  std::int64_t largest_message = std::int64_t{1} << 28;
};

/// The processes that mpirun or srun started; Local, with MPI untouched, when there is none. Initialises MPI
/// (once) and finalises it when the communicator goes, unless an exception takes it along: finalising would
/// wait for ranks that wait for this one. So whoever handles the exception should own the communicator, and
/// call abort(). Ranks of one host share its cores among their threads, unless OMP_NUM_THREADS is set.
/// Errors: std::runtime_error if MPI sees another number of ranks than the launcher started.
std::unique_ptr<Communicator> make_mpi(int* argc, char*** argv, const MpiOptions& options = {});

/// True if the environment says that mpirun, srun or the like started this process as one of several ranks.
bool started_by_launcher();

/// The rank among the launcher's processes as the environment tells it before MPI is initialised; 0 when
/// there is no launcher.
int launcher_rank();

/// Runs body(communicator) on `ranks` threads and waits. When one throws, or returns while others still wait
/// for it, the collectives of the others throw PeerFailed, and the first cause (that is not itself a
/// PeerFailed) is rethrown here.
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
