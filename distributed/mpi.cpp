// Ranks as processes, over MPI and host memory; with mpi_fetch.cpp the only file that knows MPI. Three things
// are ours rather than the library's: float64 is reduced in rank order, counts may exceed an int, and an
// error is an exception that names the call. Messages above MpiOptions::largest_message travel in pieces.
#define OMPI_SKIP_MPICXX 1  // the C interface alone: the C++ one was removed from the standard
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <thread>

#include "distributed/communicator.h"
#include "distributed/fold.h"
#include "distributed/launcher.h"
#include "distributed/mpi_fetch.h"

namespace infalign::distributed {
namespace {

void check(int code, const char* call, int line) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(call) + " failed: " + text + " (mpi.cpp:" + std::to_string(line) +
                           ")");
}

#define MPI_CHECK(call) check((call), #call, __LINE__)

MPI_Datatype datatype(Element element) {
  switch (element) {
    case Element::kByte:
      return MPI_BYTE;
    case Element::kBfloat16:
      return MPI_UINT16_T;
    case Element::kFloat32:
      return MPI_FLOAT;
    case Element::kFloat64:
      return MPI_DOUBLE;
    case Element::kInt64:
      return MPI_INT64_T;
    case Element::kUint64:
      return MPI_UINT64_T;
  }
  return MPI_DATATYPE_NULL;
}

/// A collective's intervals as MPI wants them.
struct Counts {
  explicit Counts(std::span<const Interval> intervals) {
    for (const Interval& interval : intervals) {
      count.push_back(static_cast<int>(interval.size()));
      begin.push_back(static_cast<int>(interval.begin));
    }
  }
  std::vector<int> count, begin;
};

class Mpi final : public Communicator {
 public:
  Mpi(bool finalise, const MpiOptions& options)
      : finalise_(finalise),
        largest_(std::clamp<std::int64_t>(options.largest_message, 1, std::int64_t{1} << 30)),
        exceptions_(std::uncaught_exceptions()) {
    MPI_CHECK(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &ranks_));  // a name space of our own; inherits the error handler
    MPI_CHECK(MPI_Comm_rank(ranks_, &rank_));
    MPI_CHECK(MPI_Comm_size(ranks_, &size_));
  }

  /// Of ranks split off. A thread beside those that compute is to be patient.
  Mpi(MPI_Comm ranks, std::int64_t largest, bool patient)
      : finalise_(false),
        largest_(largest),
        exceptions_(std::uncaught_exceptions()),
        patient_(patient),
        ranks_(ranks) {
    MPI_CHECK(MPI_Comm_rank(ranks_, &rank_));
    MPI_CHECK(MPI_Comm_size(ranks_, &size_));
  }

  ~Mpi() override {
    if (std::uncaught_exceptions() > exceptions_) return;  // the others may never come to finalise
    fetch_.reset();
    MPI_Comm_free(&ranks_);
    if (finalise_) MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  bool concurrent() const override {
    int level = MPI_THREAD_SINGLE;
    MPI_Query_thread(&level);
    return level >= MPI_THREAD_MULTIPLE;
  }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  void do_barrier() override { MPI_CHECK(MPI_Barrier(ranks_)); }

  void do_broadcast(std::span<std::byte> data, int from) override {
    for_pieces(std::ssize(data), largest_, [&](std::int64_t begin, int count) {
      MPI_CHECK(MPI_Bcast(data.data() + begin, count, MPI_BYTE, from, ranks_));
    });
  }

  // MPI may add floating point in any order, so those are gathered and folded in rank order by everyone. They
  // are few: losses, norms, flags.
  void do_all_reduce(Reduction reduction, Element element, std::int64_t count, std::byte* values) override {
    const bool exact = element == Element::kInt64 || element == Element::kUint64;
    const std::size_t width = size_of(element);
    if (exact) {
      MPI_Op op = reduction == Reduction::kSum ? MPI_SUM : MPI_MAX;
      for_pieces(count, largest_, [&](std::int64_t begin, int piece) {
        MPI_CHECK(MPI_Allreduce(MPI_IN_PLACE, values + static_cast<std::size_t>(begin) * width, piece,
                                datatype(element), op, ranks_));
      });
      return;
    }
    const std::int64_t most = std::max<std::int64_t>(1, largest_ / size_);
    std::vector<std::byte> all(static_cast<std::size_t>(std::min(count, most) * size_) * width);
    for_pieces(count, most, [&](std::int64_t begin, int piece) {
      std::byte* mine = values + static_cast<std::size_t>(begin) * width;
      MPI_CHECK(MPI_Allgather(mine, piece, datatype(element), all.data(), piece, datatype(element), ranks_));
      const std::size_t bytes = static_cast<std::size_t>(piece) * width;
      std::memcpy(mine, all.data(), bytes);
      for (int from = 1; from < size_; ++from)
        fold(reduction, element, piece, all.data() + static_cast<std::size_t>(from) * bytes, mine);
    });
  }

  // MPI polls while it waits, and would take a core from those that compute. What has time sleeps instead:
  // for a moment at first, as ranks that are done together wait for each other at the end of a step.
  void reduce_scatter(const void* values, void* mine, const int* counts, MPI_Datatype type) {
    if (!patient_) {
      MPI_CHECK(MPI_Reduce_scatter(values, mine, counts, type, MPI_SUM, ranks_));
      return;
    }
    using std::chrono::microseconds;
    constexpr microseconds kShortest{2}, kLongest{50};
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_CHECK(MPI_Ireduce_scatter(values, mine, counts, type, MPI_SUM, ranks_, &request));
    int done = 0;
    for (microseconds pause = kShortest;; pause = std::min(2 * pause, kLongest)) {
      MPI_CHECK(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
      if (done) return;
      std::this_thread::sleep_for(pause);
    }
  }

  // What does not fit one message goes in rounds: in each, the next few elements of every interval, packed.
  void do_reduce_scatter_sum(Element element, const std::byte* values, std::span<const Interval> intervals,
                             std::byte* mine) override {
    if (intervals.back().end <= largest_) {
      const Counts counts(intervals);
      return reduce_scatter(values, mine, counts.count.data(), datatype(element));
    }
    const std::int64_t stride = std::max<std::int64_t>(1, largest_ / size_);
    const std::size_t width = size_of(element);
    std::int64_t longest = 0;
    for (const Interval& interval : intervals) longest = std::max(longest, interval.size());
    std::vector<std::byte> packed(static_cast<std::size_t>(stride * size_) * width);
    std::vector<int> counts(intervals.size());
    for (std::int64_t done = 0; done < longest; done += stride) {
      std::byte* end = packed.data();
      for (std::size_t to = 0; to < intervals.size(); ++to) {
        const std::int64_t count = std::clamp<std::int64_t>(intervals[to].size() - done, 0, stride);
        counts[to] = static_cast<int>(count);
        const std::size_t bytes = static_cast<std::size_t>(count) * width;
        if (bytes > 0)
          std::memcpy(end, values + static_cast<std::size_t>(intervals[to].begin + done) * width, bytes);
        end += bytes;
      }
      std::byte* here = mine + static_cast<std::size_t>(std::min(done, own(intervals).size())) * width;
      reduce_scatter(packed.data(), here, counts.data(), datatype(element));
    }
  }

  void do_all_gather(Element element, std::byte* values, std::span<const Interval> intervals) override {
    if (intervals.back().end > largest_) return all_gather_ring(element, values, intervals);
    const Counts counts(intervals);
    MPI_CHECK(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, counts.count.data(),
                             counts.begin.data(), datatype(element), ranks_));
  }

  // MPI's own all-gather takes places as ints. So large ones go round a ring: in each of size - 1 turns a
  // rank passes on to its right what it last got from its left. Every link carries each value once, in place.
  void all_gather_ring(Element element, std::byte* values, std::span<const Interval> intervals) {
    const int right = (rank_ + 1) % size_;
    const int left = (rank_ + size_ - 1) % size_;
    const std::size_t width = size_of(element);
    for (int turn = 0; turn + 1 < size_; ++turn) {
      const Interval out = intervals[static_cast<std::size_t>((rank_ + size_ - turn) % size_)];
      const Interval in = intervals[static_cast<std::size_t>((rank_ + 2 * size_ - turn - 1) % size_)];
      for (std::int64_t done = 0; done < std::max(out.size(), in.size()); done += largest_) {
        const int send = static_cast<int>(std::clamp<std::int64_t>(out.size() - done, 0, largest_));
        const int receive = static_cast<int>(std::clamp<std::int64_t>(in.size() - done, 0, largest_));
        MPI_CHECK(MPI_Sendrecv(
            values + static_cast<std::size_t>(out.begin + done) * width, send, datatype(element),
            send > 0 ? right : MPI_PROC_NULL, 0, values + static_cast<std::size_t>(in.begin + done) * width,
            receive, datatype(element), receive > 0 ? left : MPI_PROC_NULL, 0, ranks_, MPI_STATUS_IGNORE));
      }
    }
  }

  std::vector<std::vector<std::byte>> do_all_gather_bytes(std::span<const std::byte> mine) override {
    const auto places = static_cast<std::size_t>(size_);
    const std::int64_t length = std::ssize(mine);
    std::vector<std::int64_t> lengths(places);
    MPI_CHECK(MPI_Allgather(&length, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, ranks_));
    std::vector<Interval> intervals(places);
    std::int64_t end = 0;
    for (std::size_t from = 0; from < places; ++from) {
      intervals[from] = {end, end + lengths[from]};
      end += lengths[from];
    }
    std::vector<std::byte> joined(static_cast<std::size_t>(end));
    std::ranges::copy(mine, joined.begin() + own(intervals).begin);
    do_all_gather(Element::kByte, joined.data(), intervals);
    std::vector<std::vector<std::byte>> all;
    all.reserve(places);
    for (const Interval& interval : intervals)
      all.emplace_back(joined.begin() + interval.begin, joined.begin() + interval.end);
    return all;
  }

  std::unique_ptr<Communicator> do_split(int group, int order, Caller caller) override {
    MPI_Comm part = MPI_COMM_NULL;
    MPI_CHECK(MPI_Comm_split(ranks_, group, order, &part));
    return std::make_unique<Mpi>(part, largest_, caller == Caller::kAnother);
  }

  std::unique_ptr<Published> do_publish(std::span<const std::byte> mine,
                                        std::span<const Interval> intervals) override {
    if (!concurrent())
      throw std::runtime_error(
          "parameters are sharded, which needs an MPI library that may be called from several threads "
          "(MPI_THREAD_MULTIPLE)");
    if (!fetch_) fetch_ = std::make_shared<MpiFetch>(MPI_Comm_c2f(ranks_), largest_);
    auto published = publish_over_mpi(fetch_, rank_, mine, intervals);
    do_barrier();  // all can be asked
    return published;
  }

  Interval own(std::span<const Interval> intervals) const {
    return intervals[static_cast<std::size_t>(rank_)];
  }

  /// body(begin, count) for pieces of at most `most` elements that cover [0, n).
  template <class Body>
  static void for_pieces(std::int64_t n, std::int64_t most, Body&& body) {
    for (std::int64_t begin = 0; begin < n; begin += most)
      body(begin, static_cast<int>(std::min(most, n - begin)));
  }

  bool finalise_;
  std::int64_t largest_;
  int exceptions_;
  bool patient_ = false;
  MPI_Comm ranks_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::shared_ptr<MpiFetch> fetch_;  // once something is published
};

/// Ranks on one host share its cores. Unless the person or the binding has decided, each takes its part of
/// them for its threads (no result depends on how many). Where ranks and threads outnumber the cores all the
/// same, a rank that waits in a collective is to yield between polls, or it takes the core from those it
/// waits for; Open MPI sees to that itself when processes outnumber the slots that mpirun knows of, but it
/// does not count threads, nor know the slots under srun.
void share_cores(const Launch& launch) {
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int ranks = launch.local_ranks.value_or(1);
  if (std::getenv("OMP_NUM_THREADS") == nullptr)
    omp_set_num_threads(std::clamp(cores / ranks, 1, omp_get_max_threads()));
  if (std::int64_t{ranks} * omp_get_max_threads() > cores) setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
}

/// Returns whether this call initialised MPI.
bool initialise(int* argc, char*** argv) {
  int done = 0;
  MPI_CHECK(MPI_Finalized(&done));
  if (done) throw std::runtime_error("MPI was finalised before; it cannot be used twice in one process");
  MPI_CHECK(MPI_Initialized(&done));
  if (done) return false;
  int provided = MPI_THREAD_SINGLE;
  MPI_CHECK(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided));
  if (provided < MPI_THREAD_FUNNELED)
    throw std::runtime_error("this MPI library does not allow for threads beside it (MPI_THREAD_FUNNELED)");
  return true;
}

}  // namespace

std::unique_ptr<Communicator> make_mpi(int* argc, char*** argv, const MpiOptions& options) {
  const Launch started = launch();
  if (!started.several()) return make_local();
  share_cores(started);
  auto communicator = std::make_unique<Mpi>(initialise(argc, argv), options);
  if (started.ranks && *started.ranks != communicator->size())
    throw std::runtime_error(
        "the launcher started " + std::to_string(*started.ranks) + " ranks, but MPI sees " +
        std::to_string(communicator->size()) +
        ": is this mpirun (or srun --mpi=...) of the MPI that the program was built with?");
  return communicator;
}

}  // namespace infalign::distributed
