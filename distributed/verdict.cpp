#include "distributed/verdict.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

namespace infalign::distributed {
namespace {

constexpr double kSilenceShare = 0.25;  // of the limit

std::string seconds(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", value);
  return text;
}

/// The court of one moment: the records, and the words for them.
class Court {
 public:
  Court(std::span<const RankRecord> ranks, double now, double limit)
      : ranks_(ranks), now_(now), limit_(limit) {}

  std::optional<Verdict> verdict() const {
    if (const auto dead = in(Presence::kDied); !dead.empty()) return of_dead(dead);
    if (const auto failed = in(Presence::kFailed); !failed.empty()) return of_failed(failed);
    const auto silent = those([&](const RankRecord& r) {
      const bool alive = r.presence == Presence::kHere || r.presence == Presence::kLeft;
      return alive && now_ - r.heard >= limit_;
    });
    if (!silent.empty()) {
      const RankRecord& first = at(silent.front());
      return lost(silent, "has given no sign of life for " + seconds(now_ - first.heard) +
                              " (the process is stopped, or its host or link is gone)");
    }
    return of_waiting();
  }

 private:
  const RankRecord& at(int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }

  template <class Is>
  std::vector<int> those(Is&& is) const {
    std::vector<int> found;
    for (int rank = 0; rank < std::ssize(ranks_); ++rank)
      if (at(rank).watched && is(at(rank))) found.push_back(rank);
    return found;
  }

  /// In the order in which it came about.
  std::vector<int> in(Presence presence) const {
    auto found = those([&](const RankRecord& r) { return r.presence == presence; });
    std::stable_sort(found.begin(), found.end(), [&](int a, int b) { return at(a).gone < at(b).gone; });
    return found;
  }

  Verdict of_dead(const std::vector<int>& dead) const {
    return lost(dead, "ended without a word (it was killed, or crashed)");
  }

  Verdict of_failed(const std::vector<int>& failed) const {
    // What fails on all ranks alike is told of the lowest of them.
    const std::string& cause = at(failed.front()).cause;
    const int rank = std::ranges::min(
        failed, {}, [&](int r) { return at(r).cause == cause ? r : static_cast<int>(std::ssize(ranks_)); });
    std::string message = name(rank);
    if (!at(rank).state.where.empty()) message += ", " + at(rank).state.where;
    message += ": " + cause;
    const std::string waiting = who_waits();
    if (!waiting.empty()) message += " [" + at_what(rank, false) + "; " + waiting + "]";
    return {at(rank).exit_code, message};
  }

  /// A rank that has not got on while others have waited; or all of them.
  std::optional<Verdict> of_waiting() const {
    const auto is_waiting = [&](const RankRecord& r) {
      return r.presence == Presence::kHere && r.state.inside && now_ - r.changed >= limit_;
    };
    const auto waiting = those(is_waiting);
    if (waiting.empty()) return std::nullopt;
    // A rank that is about to be missed is not to be told of as one that lives.
    const auto falls_silent = those([&](const RankRecord& r) {
      return r.presence == Presence::kHere && now_ - r.heard >= kSilenceShare * limit_;
    });
    if (!falls_silent.empty()) return std::nullopt;
    const auto idle = those([&](const RankRecord& r) {
      return r.presence == Presence::kHere && !r.state.inside && now_ - r.changed >= limit_;
    });
    if (!idle.empty()) return lost(idle, "has not got on for " + seconds(now_ - at(idle.front()).changed));
    if (waiting.size() < those([](const RankRecord& r) { return r.presence == Presence::kHere; }).size())
      return std::nullopt;  // for a rank that works
    const auto left = those(
        [](const RankRecord& r) { return r.presence == Presence::kLeft || r.presence == Presence::kEnded; });
    if (!left.empty()) return lost(left, "ended its work while others need it");
    const auto sequence = [&](int rank) { return at(rank).state.collective.sequence; };
    const int least = std::ranges::min(waiting, {}, sequence);
    if (sequence(least) < sequence(std::ranges::max(waiting, {}, sequence))) {
      std::vector<int> behind;
      std::ranges::copy_if(waiting, std::back_inserter(behind),
                           [&](int rank) { return sequence(rank) == sequence(least); });
      return lost(behind, "has not got on for " + seconds(now_ - at(least).changed));
    }
    return Verdict{1, "all ranks have waited for " + seconds(now_ - at(least).changed) + " " +
                          at_what(least) + ": messages between them do not get through"};
  }

  /// "rank 2 on h2 `what`; last known at ...; the same holds of rank 3; ranks 0 and 1 wait in ...".
  Verdict lost(const std::vector<int>& lost, const std::string& what) const {
    std::string message = name(lost.front()) + " " + what + "; last known " + at_what(lost.front());
    if (lost.size() > 1) message += "; the same holds of " + rank_list(std::span(lost).subspan(1));
    const std::string waiting = who_waits();
    if (!waiting.empty()) message += "; " + waiting;
    return {1, message};
  }

  std::string name(int rank) const {
    return "rank " + std::to_string(rank) + (at(rank).host.empty() ? "" : " on " + at(rank).host);
  }

  /// "at stage align, step 7, phase gradient, after all_gather #12 (96 float32)".
  std::string at_what(int rank, bool with_where = true) const {
    const RankState& state = at(rank).state;
    std::string text;
    if (with_where && !state.where.empty()) text = "at " + state.where + ", ";
    if (!state.phase.empty()) text += "phase " + state.phase + ", ";
    return text + (state.inside && !for_courier(state) ? "in " : "after ") + to_string(state.collective);
  }

  static bool for_courier(const RankState& state) { return state.inside && is_wait(state.phase); }

  /// "ranks 0 and 1 wait in barrier #3; rank 2 waits for its courier after barrier #2", or "".
  std::string who_waits() const {
    std::map<std::pair<std::uint64_t, bool>, std::vector<int>> by_call;
    for (const int rank :
         those([](const RankRecord& r) { return r.presence == Presence::kHere && r.state.inside; }))
      if (now_ - at(rank).heard < limit_)
        by_call[{at(rank).state.collective.sequence, for_courier(at(rank).state)}].push_back(rank);
    std::string text;
    for (const auto& [call, ranks] : by_call) {
      const bool several = ranks.size() > 1;
      text += (text.empty() ? "" : "; ") + rank_list(ranks) + (several ? " wait " : " waits ");
      if (call.second) text += several ? "for their couriers after " : "for its courier after ";
      if (!call.second) text += "in ";
      text += to_string(at(ranks.front()).state.collective);
    }
    return text;
  }

  std::span<const RankRecord> ranks_;
  double now_, limit_;
};

}  // namespace

std::string rank_list(std::span<const int> ranks) {
  std::vector<int> sorted(ranks.begin(), ranks.end());
  std::ranges::sort(sorted);
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t end = i + 1;
    while (end < sorted.size() && sorted[end] == sorted[end - 1] + 1) ++end;
    const std::string first = std::to_string(sorted[i]), last = std::to_string(sorted[end - 1]);
    if (end - i > 2) {
      parts.push_back(first + "-" + last);
    } else {
      parts.push_back(first);
      if (end - i == 2) parts.push_back(last);
    }
    i = end;
  }
  std::string text = sorted.size() > 1 ? "ranks " : "rank ";
  for (std::size_t i = 0; i < parts.size(); ++i)
    text += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  return text;
}

std::optional<Verdict> judge(std::span<const RankRecord> ranks, double now, double limit) {
  return Court(ranks, now, limit).verdict();
}

}  // namespace infalign::distributed
