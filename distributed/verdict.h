// What the signs of life of all ranks amount to: is one of them lost, which, and what was everybody at? The
// judgement alone, without clocks, threads or connections, so that every case of it can be tested.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "distributed/communicator.h"

namespace infalign::distributed {

/// What a rank tells of itself, again and again.
struct RankState {
  std::uint64_t progress = 0;  // another number: work has gone on
  std::string where, phase;    // "stage align (variant raw), step 7", "gradient"; each may be empty
  CollectiveCall collective;
  bool inside = false;  // the collective, or behind it; or a wait for a courier, as the phase says

  bool operator==(const RankState&) const = default;
};

/// Whether a phase is a wait for what another thread of the rank has from other ranks: by its name, "wait for
/// ...".
inline bool is_wait(std::string_view phase) { return phase.starts_with("wait for "); }

enum class Presence {
  kHere,
  kFailed,  // told of an error and waits for its end
  kDied,    // its end of the connection was closed without a word
  kLeft,    // said that it has done its work; its process still gives signs of life
  kEnded,   // and has closed its end of the connection since
};

/// What is known of a rank. Times are seconds of one clock.
struct RankRecord {
  std::string host;
  RankState state;
  Presence presence = Presence::kHere;
  bool watched = true;  // false: it does not report to us
  double heard = 0;     // when it gave a sign of life last
  double changed = 0;   // when its state was another than before
  double gone = 0;      // when its presence became what it is
  int exit_code = 1;    // of kFailed
  std::string cause;    // of kFailed
};

struct Verdict {
  int exit_code = 1;
  std::string message;  // one line, without a full stop; after a failure the lines of its cause
};

/// Nothing while all is well. A rank is lost that has died, failed, given no sign of life for `limit`
/// seconds, or not got on for as long although another has waited in a collective, or for its courier, all
/// that time. Waiting for a rank that works is no fault, however long. Where all ranks have waited that long
/// in the same collective, their messages do not get through.
std::optional<Verdict> judge(std::span<const RankRecord> ranks, double now, double limit);

/// "ranks 0-2 and 5"; "rank 4".
std::string rank_list(std::span<const int> ranks);

}  // namespace infalign::distributed
