#include "distributed/mpi_fetch.h"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace infalign::distributed {
namespace {

constexpr int kRequest = 0;      // tags: of requests, and ...
constexpr int kFirstAnswer = 1;  // ... of answers, by what is asked for, which one thread at a time asks for
// A rank whose answering fails cannot be waited for.
constexpr int kExitCode = 1;

struct Request {
  std::int64_t number, begin, count;
};

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(call) + " failed while parameters were fetched: " + text);
}

/// body(begin, count) for pieces of at most `most` of n values.
template <class Body>
void for_pieces(std::int64_t n, std::int64_t most, Body&& body) {
  for (std::int64_t begin = 0; begin < n; begin += most)
    body(begin, static_cast<int>(std::min(most, n - begin)));
}

class MpiPublished final : public Published {
 public:
  MpiPublished(std::shared_ptr<MpiFetch> fetch, int rank, std::span<const float> mine,
               std::span<const Interval> intervals)
      : fetch_(std::move(fetch)),
        rank_(static_cast<std::size_t>(rank)),
        mine_(mine),
        intervals_(intervals.begin(), intervals.end()),
        number_(fetch_->add(mine)) {}
  ~MpiPublished() override { fetch_->remove(number_); }
  MpiPublished(const MpiPublished&) = delete;
  MpiPublished& operator=(const MpiPublished&) = delete;

  void fetch(Interval interval, std::span<float> out) override {
    for (std::size_t rank = 0; rank < intervals_.size(); ++rank) {
      const Interval& theirs = intervals_[rank];
      const std::int64_t begin = std::max(interval.begin, theirs.begin);
      const std::int64_t end = std::min(interval.end, theirs.end);
      if (begin >= end) continue;
      const auto place = out.subspan(static_cast<std::size_t>(begin - interval.begin),
                                     static_cast<std::size_t>(end - begin));
      if (rank == rank_)
        std::copy_n(mine_.begin() + begin - theirs.begin, end - begin, place.begin());
      else
        fetch_->fetch(number_, static_cast<int>(rank), begin - theirs.begin, place);
    }
  }

 private:
  std::shared_ptr<MpiFetch> fetch_;
  std::size_t rank_;
  std::span<const float> mine_;
  std::vector<Interval> intervals_;
  int number_;
};

}  // namespace

MpiFetch::MpiFetch(int communicator, std::int64_t largest_message) : largest_(largest_message) {
  MPI_Comm own = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_Comm_f2c(communicator), &own), "MPI_Comm_dup");
  communicator_ = MPI_Comm_c2f(own);
  server_ = std::thread([this] { serve(); });
}

MpiFetch::~MpiFetch() {
  ended_ = true;
  server_.join();
  MPI_Comm own = MPI_Comm_f2c(communicator_);
  MPI_Comm_free(&own);
}

int MpiFetch::add(std::span<const float> mine) {
  const std::lock_guard guard(lock_);
  published_.push_back(mine);
  return static_cast<int>(published_.size()) - 1;
}

void MpiFetch::remove(int number) {
  const std::lock_guard guard(lock_);
  published_[static_cast<std::size_t>(number)] = {};
}

void MpiFetch::fetch(int number, int rank, std::int64_t begin, std::span<float> out) {
  MPI_Comm ranks = MPI_Comm_f2c(communicator_);
  std::vector<MPI_Request> answers;
  for_pieces(std::ssize(out), largest_, [&](std::int64_t first, int count) {
    check(MPI_Irecv(out.data() + first, count, MPI_FLOAT, rank, kFirstAnswer + number, ranks,
                    &answers.emplace_back()),
          "MPI_Irecv");
  });
  const Request request{number, begin, std::ssize(out)};
  check(MPI_Send(&request, sizeof request, MPI_BYTE, rank, kRequest, ranks), "MPI_Send");
  check(MPI_Waitall(static_cast<int>(answers.size()), answers.data(), MPI_STATUSES_IGNORE), "MPI_Waitall");
}

void MpiFetch::answer(int rank) {
  MPI_Comm ranks = MPI_Comm_f2c(communicator_);
  Request request{};
  check(MPI_Recv(&request, sizeof request, MPI_BYTE, rank, kRequest, ranks, MPI_STATUS_IGNORE), "MPI_Recv");
  const auto values = [&] {
    const std::lock_guard guard(lock_);
    return published_.at(static_cast<std::size_t>(request.number))
        .subspan(static_cast<std::size_t>(request.begin), static_cast<std::size_t>(request.count));
  }();
  for_pieces(request.count, largest_, [&](std::int64_t first, int count) {
    check(MPI_Send(values.data() + first, count, MPI_FLOAT, rank,
                   kFirstAnswer + static_cast<int>(request.number), ranks),
          "MPI_Send");
  });
}

void MpiFetch::serve() try {
  using std::chrono::microseconds;
  constexpr microseconds kShortest(10), kLongest(200);
  MPI_Comm ranks = MPI_Comm_f2c(communicator_);
  for (microseconds pause = kLongest; !ended_;) {
    int there = 0;
    MPI_Status status;
    check(MPI_Iprobe(MPI_ANY_SOURCE, kRequest, ranks, &there, &status), "MPI_Iprobe");
    if (there) {
      answer(status.MPI_SOURCE);
      pause = kShortest;
    } else {
      std::this_thread::sleep_for(pause);
      pause = std::min(kLongest, pause * 5 / 4);
    }
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "infalign: %s\n", error.what());
  MPI_Abort(MPI_COMM_WORLD, kExitCode);
}

std::unique_ptr<Published> publish_over_mpi(std::shared_ptr<MpiFetch> fetch, int rank,
                                            std::span<const float> mine,
                                            std::span<const Interval> intervals) {
  return std::make_unique<MpiPublished>(std::move(fetch), rank, mine, intervals);
}

}  // namespace infalign::distributed
