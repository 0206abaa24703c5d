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

// A request is the number, and begin and end of each interval.
using Request = std::vector<std::int64_t>;

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(call) + " failed while parameters were fetched: " + text);
}

/// body(begin, count) for pieces of at most `most` of n bytes.
template <class Body>
void for_messages(std::int64_t n, std::int64_t most, Body&& body) {
  for (std::int64_t begin = 0; begin < n; begin += most)
    body(begin, static_cast<int>(std::min(most, n - begin)));
}

/// MPI polls while it waits, and would take a core from those that compute.
void wait_patiently(std::vector<MPI_Request>& requests) {
  using std::chrono::microseconds;
  constexpr microseconds kShortest{2}, kLongest{50};
  int done = 0;
  for (microseconds pause = kShortest;; pause = std::min(2 * pause, kLongest)) {
    check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
          "MPI_Testall");
    if (done) return;
    std::this_thread::sleep_for(pause);
  }
}

class MpiPublished final : public Published {
 public:
  MpiPublished(std::shared_ptr<MpiFetch> fetch, int rank, std::span<const std::byte> mine,
               std::span<const Interval> intervals)
      : fetch_(std::move(fetch)),
        rank_(static_cast<std::size_t>(rank)),
        mine_(mine),
        intervals_(intervals.begin(), intervals.end()),
        number_(fetch_->add(mine)) {}
  ~MpiPublished() override { fetch_->remove(number_); }
  MpiPublished(const MpiPublished&) = delete;
  MpiPublished& operator=(const MpiPublished&) = delete;

  void fetch(std::span<const Interval> wanted, std::span<std::byte> out) override {
    std::vector<std::vector<MpiFetch::Wanted>> of_rank(intervals_.size());
    for (std::size_t rank = 0; rank < intervals_.size(); ++rank) {
      const std::int64_t begin = intervals_[rank].begin;
      for_pieces_within(wanted, intervals_[rank], [&](Interval piece, std::int64_t place) {
        if (rank == rank_)
          std::copy_n(mine_.begin() + piece.begin - begin, piece.size(), out.begin() + place);
        else
          of_rank[rank].push_back({{piece.begin - begin, piece.end - begin}, out.data() + place});
      });
    }
    fetch_->fetch(number_, of_rank);
  }

 private:
  std::shared_ptr<MpiFetch> fetch_;
  std::size_t rank_;
  std::span<const std::byte> mine_;
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

int MpiFetch::add(std::span<const std::byte> mine) {
  const std::lock_guard guard(lock_);
  published_.push_back(mine);
  return static_cast<int>(published_.size()) - 1;
}

void MpiFetch::remove(int number) {
  const std::lock_guard guard(lock_);
  published_[static_cast<std::size_t>(number)] = {};
}

void MpiFetch::fetch(int number, std::span<const std::vector<Wanted>> wanted) {
  MPI_Comm ranks = MPI_Comm_f2c(communicator_);
  std::vector<MPI_Request> answers;
  std::vector<Request> asked(wanted.size());
  for (std::size_t rank = 0; rank < wanted.size(); ++rank) {
    if (wanted[rank].empty()) continue;
    asked[rank].push_back(number);
    for (const auto& [theirs, to] : wanted[rank]) {
      asked[rank].insert(asked[rank].end(), {theirs.begin, theirs.end});
      for_messages(theirs.size(), largest_, [&, into = to](std::int64_t begin, int count) {
        check(MPI_Irecv(into + begin, count, MPI_BYTE, static_cast<int>(rank), kFirstAnswer + number, ranks,
                        &answers.emplace_back()),
              "MPI_Irecv");
      });
    }
    check(MPI_Isend(asked[rank].data(), static_cast<int>(asked[rank].size()), MPI_INT64_T,
                    static_cast<int>(rank), kRequest, ranks, &answers.emplace_back()),
          "MPI_Isend");
  }
  wait_patiently(answers);
}

void MpiFetch::answer(int rank, int length) {
  MPI_Comm ranks = MPI_Comm_f2c(communicator_);
  Request request(static_cast<std::size_t>(length));
  check(MPI_Recv(request.data(), length, MPI_INT64_T, rank, kRequest, ranks, MPI_STATUS_IGNORE), "MPI_Recv");
  const auto mine = [&] {
    const std::lock_guard guard(lock_);
    return published_.at(static_cast<std::size_t>(request[0]));
  }();
  std::vector<MPI_Request> answers;
  for (std::size_t i = 1; i + 1 < request.size(); i += 2) {
    const auto values = mine.subspan(static_cast<std::size_t>(request[i]),
                                     static_cast<std::size_t>(request[i + 1] - request[i]));
    for_messages(std::ssize(values), largest_, [&](std::int64_t begin, int count) {
      check(MPI_Isend(values.data() + begin, count, MPI_BYTE, rank,
                      kFirstAnswer + static_cast<int>(request[0]), ranks, &answers.emplace_back()),
            "MPI_Isend");
    });
  }
  wait_patiently(answers);
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
      int length = 0;
      check(MPI_Get_count(&status, MPI_INT64_T, &length), "MPI_Get_count");
      answer(status.MPI_SOURCE, length);
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
                                            std::span<const std::byte> mine,
                                            std::span<const Interval> intervals) {
  return std::make_unique<MpiPublished>(std::move(fetch), rank, mine, intervals);
}

}  // namespace infalign::distributed
