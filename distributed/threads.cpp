// Ranks as threads of one process: what runs under mpirun can be tested, debugged and put under a thread
// sanitizer without it. Ranks meet, each shows where its data is, each does its share of the work straight on
// the data of the others, and all part. A rank that fails, leaves early or takes a wrong turn breaks up the
// meeting for good, so no rank can wait for one that will not come.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "distributed/communicator.h"
#include "distributed/fold.h"

namespace infalign::distributed {
namespace {

/// What a rank brings to a collective. Another rank writes to `take` only what no other rank reads or writes.
struct Contribution {
  CollectiveCall call;
  const std::byte* give = nullptr;
  std::byte* take = nullptr;
  std::size_t bytes = 0;                     // all_gather_bytes: how many this rank gives
  std::span<const Interval> intervals = {};  // who owns what, where that is asked
};

/// Where the ranks of one run_threads meet. All state is guarded by one mutex; contributions may be read
/// without it between arrive() and part(), when nobody changes them.
class Meeting {
 public:
  explicit Meeting(int ranks) : contributions_(static_cast<std::size_t>(ranks)) {}

  int ranks() const { return static_cast<int>(contributions_.size()); }
  const Contribution& of(int rank) const { return contributions_[static_cast<std::size_t>(rank)]; }

  /// Returns when every rank has arrived with the same call. Errors: PeerFailed when one never will;
  /// CollectiveMismatch, on all ranks, when calls differ. After an error the caller is not in the meeting.
  void arrive(int rank, const Contribution& mine) {
    std::unique_lock lock(mutex_);
    contributions_[static_cast<std::size_t>(rank)] = mine;
    if (broken_.empty()) {
      const std::uint64_t this_meeting = met_;
      if (++arrived_ == ranks()) {
        arrived_ = 0;
        check_agreement();
        present_ = ranks();
        ++met_;
        changed_.notify_all();
        return;
      }
      changed_.wait(lock, [&] { return met_ != this_meeting || !broken_.empty(); });
      if (met_ != this_meeting) return;
    }
    if (mismatch_) throw CollectiveMismatch(broken_);
    throw PeerFailed("rank " + std::to_string(rank) + " gave up " + to_string(mine.call) + ": " + broken_);
  }

  /// Returns when every rank has parted, that is when nobody touches this rank's data any more. Cannot fail:
  /// whoever arrived at a complete meeting parts from it, also when its share of the work throws.
  void part() noexcept {
    std::unique_lock lock(mutex_);
    const std::uint64_t this_meeting = parted_;
    if (--present_ == 0) {
      ++parted_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return parted_ != this_meeting; });
    }
  }

  /// This rank will not come again, neither here nor to a meeting of its that was split off.
  void withdraw(int rank, const std::string& why) {
    break_up(rank, "rank " + std::to_string(rank) + " " + why);
  }

  /// To be broken up with this one by those who meet there too: `ranks`, in the order of their numbers there.
  void split_off(const std::shared_ptr<Meeting>& part, std::vector<int> ranks) {
    const std::lock_guard lock(mutex_);
    parts_.push_back({part, std::move(ranks)});
  }

 private:
  struct Part {
    std::weak_ptr<Meeting> meeting;
    std::vector<int> ranks;
  };

  void break_up(int rank, const std::string& why) {
    std::vector<Part> parts;
    {
      const std::lock_guard lock(mutex_);
      if (broken_.empty()) broken_ = why;
      changed_.notify_all();
      parts = parts_;
    }
    for (const Part& part : parts) {
      const auto there = std::ranges::find(part.ranks, rank);
      const auto meeting = there != part.ranks.end() ? part.meeting.lock() : nullptr;
      if (meeting) meeting->break_up(static_cast<int>(there - part.ranks.begin()), why);
    }
  }

  void check_agreement() {
    for (int rank = 1; rank < ranks(); ++rank) {
      if (of(rank).call != of(0).call) {
        refuse("rank " + std::to_string(rank) + " is in " + to_string(of(rank).call) +
               " while rank 0 is in " + to_string(of(0).call));
      }
      if (!std::ranges::equal(of(rank).intervals, of(0).intervals)) {
        refuse("rank " + std::to_string(rank) + " and rank 0 give different intervals to " +
               to_string(of(0).call));
      }
    }
  }

  [[noreturn]] void refuse(const std::string& why) {
    mismatch_ = true;
    broken_ = why;
    changed_.notify_all();
    throw CollectiveMismatch(why);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Contribution> contributions_;
  int arrived_ = 0;                     // ranks waiting for the next meeting to be complete
  int present_ = 0;                     // ranks at work in the current one
  std::uint64_t met_ = 0, parted_ = 0;  // meetings completed, and over
  std::string broken_;                  // why there will be no further meeting; empty while there may be
  bool mismatch_ = false;
  std::vector<Part> parts_;
};

/// Ranks of one process read each other's memory as it lies.
class ThreadsPublished final : public Published {
 public:
  ThreadsPublished(std::vector<const std::byte*> begins, std::span<const Interval> intervals)
      : begins_(std::move(begins)), intervals_(intervals.begin(), intervals.end()) {}
  void fetch(std::span<const Interval> wanted, std::span<std::byte> out) override {
    for (std::size_t rank = 0; rank < intervals_.size(); ++rank)
      for_pieces_within(wanted, intervals_[rank], [&](Interval piece, std::int64_t place) {
        std::copy_n(begins_[rank] + piece.begin - intervals_[rank].begin, piece.size(), out.begin() + place);
      });
  }

 private:
  std::vector<const std::byte*> begins_;  // [ranks]
  std::vector<Interval> intervals_;
};

class Threads final : public Communicator {
 public:
  Threads(std::shared_ptr<Meeting> meeting, int rank) : meeting_(std::move(meeting)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return meeting_->ranks(); }
  void abort(int exit_code) override {
    meeting_->withdraw(rank_, "aborted with exit code " + std::to_string(exit_code));
  }

 private:
  /// From arrival to parting.
  class Together {
   public:
    Together(Threads& rank, const std::byte* give, std::byte* take, std::size_t bytes,
             std::span<const Interval> intervals = {})
        : meeting_(*rank.meeting_) {
      meeting_.arrive(rank.rank_, {rank.last_collective(), give, take, bytes, intervals});
    }
    ~Together() { meeting_.part(); }
    Together(const Together&) = delete;
    Together& operator=(const Together&) = delete;

   private:
    Meeting& meeting_;
  };

  void do_barrier() override { const Together together(*this, nullptr, nullptr, 0); }

  void do_broadcast(std::span<std::byte> data, int from) override {
    const Together together(*this, data.data(), nullptr, data.size());
    if (rank_ != from && !data.empty()) std::memcpy(data.data(), meeting_->of(from).give, data.size());
  }

  // Each rank folds its share of the elements into rank 0's data, in rank order, and hands the result round.
  void do_all_reduce(Reduction reduction, Element element, std::int64_t count, std::byte* values) override {
    const Together together(*this, values, values, 0);
    const Interval share = shares(count, size())[static_cast<std::size_t>(rank_)];
    if (share.size() == 0) return;
    const std::size_t offset = static_cast<std::size_t>(share.begin) * size_of(element);
    const std::size_t bytes = static_cast<std::size_t>(share.size()) * size_of(element);
    std::byte* result = meeting_->of(0).take + offset;
    for (int rank = 1; rank < size(); ++rank)
      fold(reduction, element, share.size(), meeting_->of(rank).give + offset, result);
    for (int rank = 1; rank < size(); ++rank) std::memcpy(meeting_->of(rank).take + offset, result, bytes);
  }

  void do_reduce_scatter_sum(Element element, const std::byte* values, std::span<const Interval> intervals,
                             std::byte* mine) override {
    const Together together(*this, values, nullptr, 0, intervals);
    const Interval share = intervals[static_cast<std::size_t>(rank_)];
    if (share.size() == 0) return;
    const std::size_t offset = static_cast<std::size_t>(share.begin) * size_of(element);
    std::memcpy(mine, meeting_->of(0).give + offset,
                static_cast<std::size_t>(share.size()) * size_of(element));
    for (int rank = 1; rank < size(); ++rank)
      fold(Reduction::kSum, element, share.size(), meeting_->of(rank).give + offset, mine);
  }

  void do_all_gather(Element element, std::byte* values, std::span<const Interval> intervals) override {
    const Together together(*this, values, nullptr, 0, intervals);
    for (int rank = 0; rank < size(); ++rank) {
      const Interval share = intervals[static_cast<std::size_t>(rank)];
      if (rank == rank_ || share.size() == 0) continue;
      const std::size_t offset = static_cast<std::size_t>(share.begin) * size_of(element);
      std::memcpy(values + offset, meeting_->of(rank).give + offset,
                  static_cast<std::size_t>(share.size()) * size_of(element));
    }
  }

  std::vector<std::vector<std::byte>> do_all_gather_bytes(std::span<const std::byte> mine) override {
    const Together together(*this, mine.data(), nullptr, mine.size());
    std::vector<std::vector<std::byte>> all;
    all.reserve(static_cast<std::size_t>(size()));
    for (int rank = 0; rank < size(); ++rank) {
      const Contribution& theirs = meeting_->of(rank);
      all.emplace_back(theirs.give, theirs.give + theirs.bytes);
    }
    return all;
  }

  // The first of a group makes the meeting; the others take it from where it lies, before they part.
  std::unique_ptr<Communicator> do_split(int group, int order, Caller) override {
    struct Member {
      int group;
      int order;
      std::shared_ptr<Meeting>* meeting;
    };
    std::shared_ptr<Meeting> made;
    const Member mine{group, order, &made};
    const auto members = [&] {
      std::vector<Member> all;
      for (const auto& bytes : do_all_gather_bytes(std::as_bytes(std::span(&mine, 1))))
        all.push_back(*reinterpret_cast<const Member*>(bytes.data()));
      return all;
    }();
    std::vector<int> there;  // the ranks of this group, in their order
    for (int rank = 0; rank < size(); ++rank)
      if (members[static_cast<std::size_t>(rank)].group == group) there.push_back(rank);
    const int first = there.front();
    std::ranges::stable_sort(there, {},
                             [&](int rank) { return members[static_cast<std::size_t>(rank)].order; });
    const auto place = static_cast<int>(std::ranges::find(there, rank_) - there.begin());
    if (first == rank_) {
      made = std::make_shared<Meeting>(static_cast<int>(there.size()));
      meeting_->split_off(made, there);
    }
    do_barrier();  // all are made
    auto meeting = *members[static_cast<std::size_t>(first)].meeting;
    do_barrier();  // all are taken
    return std::make_unique<Threads>(std::move(meeting), place);
  }

  std::unique_ptr<Published> do_publish(std::span<const std::byte> mine,
                                        std::span<const Interval> intervals) override {
    const std::byte* begin = mine.data();
    std::vector<const std::byte*> begins;
    for (const auto& bytes : do_all_gather_bytes(std::as_bytes(std::span(&begin, 1))))
      begins.push_back(*reinterpret_cast<const std::byte* const*>(bytes.data()));
    return std::make_unique<ThreadsPublished>(std::move(begins), intervals);
  }

  std::shared_ptr<Meeting> meeting_;
  int rank_;
};

/// The exception to be rethrown: the first that is a cause, else the first that is a consequence.
class FirstCause {
 public:
  void offer(std::exception_ptr error, bool consequence) {
    const std::lock_guard lock(mutex_);
    std::exception_ptr& place = consequence ? consequence_ : cause_;
    if (!place) place = std::move(error);
  }
  void rethrow() const {
    if (cause_) std::rethrow_exception(cause_);
    if (consequence_) std::rethrow_exception(consequence_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr cause_, consequence_;
};

}  // namespace

void run_threads(int ranks, const std::function<void(Communicator&)>& body) {
  if (ranks < 1) throw std::invalid_argument("run_threads: needs at least one rank");
  const auto made = std::make_shared<Meeting>(ranks);
  Meeting& meeting = *made;
  FirstCause first_cause;
  const auto run = [&](int rank) {
    Threads communicator(made, rank);
    try {
      body(communicator);
      meeting.withdraw(rank, "had returned after " + to_string(communicator.last_collective()));
    } catch (const PeerFailed& failure) {
      first_cause.offer(std::current_exception(), true);
      meeting.withdraw(rank, std::string("failed: ") + failure.what());
    } catch (const std::exception& error) {
      first_cause.offer(std::current_exception(), false);
      meeting.withdraw(rank, std::string("failed: ") + error.what());
    } catch (...) {
      first_cause.offer(std::current_exception(), false);
      meeting.withdraw(rank, "failed");
    }
  };
  {
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(ranks));
    try {
      for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
    } catch (...) {  // the system gives no more threads: those that run must not wait for the missing ones
      meeting.withdraw(static_cast<int>(threads.size()), "could not be started");
      first_cause.offer(std::current_exception(), false);
    }
  }
  first_cause.rethrow();
}

}  // namespace infalign::distributed
