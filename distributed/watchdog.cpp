#include "distributed/watchdog.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "distributed/launcher.h"
#include "distributed/line_socket.h"
#include "distributed/verdict.h"
#include "kernels/trace.h"

namespace infalign::distributed {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kMostJudges = 3;
// Of the time by which everybody is to have ended, what a rank may be silent for or stand still.
constexpr double kLimitShare = 0.75;
constexpr double kBeatsPerLimit = 20, kLongestPeriod = 1;  // seconds
// Between the first evidence and the verdict: a cause may arrive behind its consequence.
constexpr double kGrace = 0.3;
// How much longer than a judge's limit the next judge, and ranks that are none, wait for a verdict.
constexpr double kPatience = 0.1, kLastPatience = 0.25;
constexpr milliseconds kConnecting{5000};

double now() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

// A message is a line of fields between tabs. What would break it is carried by control characters.

std::string escaped(std::string text) {
  std::ranges::replace(text, '\n', '\v');
  std::ranges::replace(text, '\t', ' ');
  return text;
}

std::string unescaped(std::string text) {
  std::ranges::replace(text, '\v', '\n');
  return text;
}

template <class... Parts>
std::string line_of(const Parts&... parts) {
  std::string line;
  const auto add = [&](const std::string& part) { line += (line.empty() ? "" : "\t") + escaped(part); };
  (add(parts), ...);
  return line;
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::size_t begin = 0;
  for (auto end = line.find('\t'); end != std::string::npos; end = line.find('\t', begin)) {
    fields.push_back(unescaped(line.substr(begin, end - begin)));
    begin = end + 1;
  }
  fields.push_back(unescaped(line.substr(begin)));
  return fields;
}

/// 0 for what is not a number: lines come from ranks of this run alone.
std::int64_t number(const std::string& text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string to_line(const RankState& state) {
  const CollectiveCall& call = state.collective;
  return line_of("beat", std::to_string(state.progress), std::to_string(call.sequence),
                 std::to_string(static_cast<int>(call.kind)), std::to_string(static_cast<int>(call.element)),
                 std::to_string(call.count), std::to_string(call.from), std::to_string(int{state.inside}),
                 state.where, state.phase);
}

RankState state_of(const std::vector<std::string>& beat) {
  RankState state;
  state.progress = static_cast<std::uint64_t>(number(beat[1]));
  state.collective = {static_cast<std::uint64_t>(number(beat[2])), static_cast<Collective>(number(beat[3])),
                      static_cast<Element>(number(beat[4])), number(beat[5]),
                      static_cast<int>(number(beat[6]))};
  state.inside = beat[7] == "1";
  state.where = beat[8];
  state.phase = beat[9];
  return state;
}

/// What a thread has read and written and which pages it has touched, as the system counts: it grows while
/// models, data and checkpoints are read and written, and stands still in a circle or a wait.
class ThreadTraffic {
 public:
  ThreadTraffic() : folder_("/proc/self/task/" + std::to_string(syscall(SYS_gettid)) + "/") {}

  std::uint64_t count() const {
    std::uint64_t sum = 0;
    std::ifstream io(folder_ + "io");  // some systems do not let it be read
    for (std::string name; io >> name;) {
      std::uint64_t bytes = 0;
      io >> bytes;
      if (name == "rchar:" || name == "wchar:") sum += bytes;
    }
    std::ifstream stat(folder_ + "stat");
    std::string text;
    if (std::getline(stat, text)) {
      // After the name in parentheses: state, five numbers and flags, then minor and major page faults.
      std::size_t at = text.rfind(')');
      for (int field = 0; at != std::string::npos && field < 11; ++field) {
        at = text.find(' ', at + 1);
        if (at != std::string::npos && (field == 7 || field == 9))
          sum += static_cast<std::uint64_t>(number(text.substr(at + 1, 20)));
      }
    }
    return sum;
  }

 private:
  std::string folder_;
};

/// Where a rank is to be reached.
struct RankAddress {
  std::string host;
  std::uint16_t port = 0;
  std::vector<std::string> addresses;
};

std::string to_line(const RankAddress& place) {
  std::string addresses;
  for (const auto& address : place.addresses) addresses += (addresses.empty() ? "" : " ") + address;
  return line_of(place.host, std::to_string(place.port), addresses);
}

RankAddress place_of(const std::string& line) {
  const auto fields = fields_of(line);
  RankAddress place{fields[0], static_cast<std::uint16_t>(number(fields[1])), {}};
  for (std::size_t begin = 0; begin < fields[2].size();) {
    const auto end = std::min(fields[2].find(' ', begin), fields[2].size());
    place.addresses.push_back(fields[2].substr(begin, end - begin));
    begin = end + 1;
  }
  return place;
}

std::string as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> as_bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

/// The first rank of each host, as far as there are hosts; then further ranks.
std::vector<int> judges_among(const std::vector<RankAddress>& places) {
  std::vector<int> judges, others;
  std::vector<std::string> hosts;
  for (int rank = 0; rank < std::ssize(places); ++rank) {
    const std::string& host = places[static_cast<std::size_t>(rank)].host;
    const bool is_new = std::ranges::find(hosts, host) == hosts.end();
    if (is_new) hosts.push_back(host);
    (is_new ? judges : others).push_back(rank);
  }
  judges.insert(judges.end(), others.begin(), others.end());
  judges.resize(std::min(judges.size(), kMostJudges));
  std::ranges::sort(judges);
  return judges;
}

/// A judge has a connection for every rank.
void allow_descriptors(int ranks) {
  rlimit limit{};
  constexpr rlim_t kOthers = 512;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = std::min(limit.rlim_max, static_cast<rlim_t>(ranks) + kOthers);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// All of it, unless whoever reads does not: then what fits within a second.
void write_patiently(int descriptor, std::string_view text) {
  pollfd ready{descriptor, POLLOUT, 0};
  while (!text.empty() && poll(&ready, 1, 1000) > 0) {
    const ssize_t written = write(descriptor, text.data(), std::min<std::size_t>(text.size(), 4096));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

Watchdog::Ending Watchdog::Ending::of_process() {
  return {[](const std::string& message) {
            const std::string line = "infalign: " + message + "\n";
            write_patiently(STDERR_FILENO, line);
            const char* file = std::getenv("INFALIGN_VERDICT_FILE");
            const int descriptor = file != nullptr ? open(file, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
            if (descriptor >= 0) write_patiently(descriptor, line);
          },
          [](int exit_code) { _exit(exit_code); }};
}

class Watchdog::Impl {
 public:
  Impl(Communicator& ranks, double seconds, Ending ending)
      : communicator_(&ranks),
        me_(ranks.rank()),
        limit_(seconds * kLimitShare),
        period_(std::min(kLongestPeriod, seconds / kBeatsPerLimit)),
        ending_(std::move(ending)),
        records_(static_cast<std::size_t>(ranks.size())) {
    kernels::follow_this_thread();
    allow_descriptors(ranks.size());
    std::uint16_t port = 0;
    listening_ = listen_anywhere(port);
    token_ = agree_on_token(ranks);
    const std::string mine = to_line(RankAddress{host_name(), port, own_addresses()});
    std::vector<RankAddress> places;
    for (const auto& bytes : ranks.all_gather_bytes(as_bytes(mine)))
      places.push_back(place_of(as_text(bytes)));
    judges_ = judges_among(places);
    const double start = now();
    for (std::size_t rank = 0; rank < places.size(); ++rank) {
      records_[rank].host = places[rank].host;
      const int number = static_cast<int>(rank);
      records_[rank].watched = is_judge(me_) || is_judge(number) || number == me_;
      records_[rank].heard = records_[rank].changed = start;
    }
    if (!is_judge(me_)) listening_.close();
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
    std::string failure;
    for (const int judge : judges_)
      if (judge < me_ || !is_judge(me_)) failure += connect(judge, places[static_cast<std::size_t>(judge)]);
    for (const auto& bytes : ranks.all_gather_bytes(as_bytes(failure)))
      if (!bytes.empty()) throw std::runtime_error(as_text(bytes));
  }

  ~Impl() {
    thread_.request_stop();
    thread_.join();
    if (communicator_ == nullptr) return;  // said already
    for (auto& [rank, connection] : connections_) connection.send("bye");
  }

  void at(const std::string& where) {
    const std::lock_guard lock(mutex_);
    where_ = where;
  }

  void release() {
    const std::lock_guard lock(mutex_);
    last_call_ = communicator_->last_collective();
    communicator_ = nullptr;
    depart(me_, Presence::kLeft, now());
    for (auto& [rank, connection] : connections_) connection.send("bye");
  }

  void fail(int exit_code, const std::string& cause) {
    {
      const std::lock_guard lock(mutex_);
      own_failure_ = line_of("fail", std::to_string(exit_code), cause);
    }
    const double deadline = now() + limit_ * (1 + kLastPatience) + kGrace;
    while (!over_ && now() < deadline) std::this_thread::sleep_for(milliseconds(20));
    if (over_) return;
    ending_.print(cause);  // nobody passed a verdict
    ending_.exit(exit_code);
  }

 private:
  bool is_judge(int rank) const { return std::ranges::find(judges_, rank) != judges_.end(); }
  RankRecord& record(int rank) { return records_[static_cast<std::size_t>(rank)]; }

  /// By which ranks of this run know each other.
  static std::string agree_on_token(Communicator& ranks) {
    std::array<std::uint64_t, 1> token{};
    if (ranks.root()) {
      std::random_device device;
      token[0] = (std::uint64_t{device()} << 32) | device();
    }
    ranks.broadcast(std::as_writable_bytes(std::span(token)), 0);
    return std::to_string(token[0]);
  }

  /// Returns what went wrong, or "".
  std::string connect(int judge, const RankAddress& place) {
    std::string tried;
    for (const std::string& address : place.addresses) {
      std::string failure;
      LineSocket connection = connect_to(address, place.port, kConnecting, failure);
      if (connection.descriptor() >= 0) {
        connection.send(line_of("hello", token_, std::to_string(me_)));
        const std::string answer = first_line(connection);
        if (answer == line_of("hello", token_, std::to_string(judge))) {
          const std::lock_guard lock(mutex_);
          connections_.emplace(judge, std::move(connection));
          return "";
        }
        failure = "somebody else answered";
      }
      tried += (tried.empty() ? "" : ", ") + address + " (" + failure + ")";
    }
    return "the watchdog of rank " + std::to_string(me_) + " on " + record(me_).host +
           " cannot reach that of rank " + std::to_string(judge) + " on " + place.host + ", port " +
           std::to_string(place.port) + ": " + (tried.empty() ? "it has no IPv4 address" : tried) +
           "; open the way, or set distributed.watchdog_seconds to 0 to do without";
  }

  static std::string first_line(LineSocket& connection) {
    const auto deadline = Clock::now() + kConnecting;
    while (Clock::now() < deadline && connection.state() == LineSocket::State::kOpen) {
      pollfd ready{connection.descriptor(), POLLIN, 0};
      poll(&ready, 1, 100);
      const auto lines = connection.receive();
      if (!lines.empty()) return lines.front();
    }
    return "";
  }

  void run(const std::stop_token& stop) {
    double last = now(), next_beat = last;
    while (!stop.stop_requested() && !over_) {
      wait_for_news(next_beat);
      const std::lock_guard lock(mutex_);
      const double time = now();
      // If it was this process that stood still, the others are not to blame for it.
      if (time - last > std::max(limit_ / 2, 2 * period_)) excuse_all(time - last);
      last = time;
      accept_new();
      read_all(time);
      if (time >= next_beat || !own_failure_.empty()) {
        beat(time);
        next_beat = time + period_;
      }
      if (!over_) consider(time);
    }
  }

  void wait_for_news(double next_beat) {
    std::vector<pollfd> ready;
    {
      const std::lock_guard lock(mutex_);
      if (listening_.descriptor() >= 0) ready.push_back({listening_.descriptor(), POLLIN, 0});
      for (const auto& stranger : strangers_) ready.push_back({stranger.descriptor(), POLLIN, 0});
      for (const auto& [rank, connection] : connections_)
        if (connection.state() == LineSocket::State::kOpen)
          ready.push_back({connection.descriptor(), POLLIN, 0});
    }
    const double until = std::min({period_, kGrace / 3, std::max(0.0, next_beat - now())});
    poll(ready.data(), ready.size(), std::max(1, static_cast<int>(until * 1000)));
  }

  void excuse_all(double gap) {
    for (RankRecord& of_rank : records_) {
      of_rank.heard += gap;
      of_rank.changed += gap;
    }
  }

  void accept_new() {
    while (listening_.descriptor() >= 0) {
      LineSocket stranger = accept_one(listening_);
      if (stranger.descriptor() < 0) break;
      strangers_.push_back(std::move(stranger));
    }
    for (auto& stranger : strangers_) {
      const auto lines = stranger.receive();
      if (lines.empty()) continue;
      const auto fields = fields_of(lines.front());
      if (fields.size() == 3 && fields[0] == "hello" && fields[1] == token_) {
        const int rank = static_cast<int>(number(fields[2]));
        stranger.send(line_of("hello", token_, std::to_string(me_)));
        connections_.insert_or_assign(rank, std::exchange(stranger, LineSocket()));
        for (std::size_t i = 1; i < lines.size(); ++i) take(rank, lines[i], now());
      }
      stranger.close();
    }
    std::erase_if(strangers_, [](const LineSocket& s) {
      return s.descriptor() < 0 || s.state() != LineSocket::State::kOpen;
    });
  }

  void read_all(double time) {
    for (auto& [rank, connection] : connections_) {
      for (const std::string& line : connection.receive()) take(rank, line, time);
      if (connection.state() != LineSocket::State::kEnded) continue;
      const bool told = record(rank).presence == Presence::kLeft;
      depart(rank, told ? Presence::kEnded : Presence::kDied, time);
    }
  }

  void take(int rank, const std::string& line, double time) {
    const auto fields = fields_of(line);
    RankRecord& from = record(rank);
    from.heard = time;
    if (fields[0] == "beat" && fields.size() == 10) {
      note(from, state_of(fields), time);
    } else if (fields[0] == "bye") {
      depart(rank, Presence::kLeft, time);
    } else if (fields[0] == "fail" && fields.size() == 3) {
      from.exit_code = static_cast<int>(number(fields[1]));
      from.cause = fields[2];
      depart(rank, Presence::kFailed, time);
    } else if (fields[0] == "verdict" && fields.size() == 2) {
      end(static_cast<int>(number(fields[1])));
    }
  }

  void end(int exit_code) {
    over_ = true;
    ending_.exit(exit_code);
  }

  static void note(RankRecord& of_rank, RankState state, double time) {
    if (!(state == of_rank.state)) of_rank.changed = time;
    of_rank.state = std::move(state);
    of_rank.heard = time;
  }

  void depart(int rank, Presence how, double time) {
    RankRecord& gone = record(rank);
    const bool ends = gone.presence == Presence::kLeft && how == Presence::kEnded;
    if (gone.presence != Presence::kHere && !ends) return;
    gone.presence = how;
    gone.gone = time;
  }

  RankState own_state() const {
    RankState state;
    state.where = where_;
    state.phase = kernels::phase();
    state.collective = communicator_ != nullptr ? communicator_->last_collective() : last_call_;
    state.inside = (communicator_ != nullptr && communicator_->in_collective()) || is_wait(state.phase);
    // What MPI or a courier does while it is waited for is not progress.
    if (!state.inside) state.progress = kernels::pulses() + traffic_.count();
    return state;
  }

  void beat(double time) {
    note(record(me_), own_state(), time);
    const std::string line = to_line(record(me_).state);
    if (!own_failure_.empty()) take(me_, own_failure_, time);
    for (auto& [rank, connection] : connections_) {
      if (!connection.flush()) continue;  // it does not read; no use in more
      connection.send(line);
      if (!own_failure_.empty()) connection.send(own_failure_);
    }
    own_failure_.clear();
  }

  /// No verdict will come from that rank. One that has done its work still passes verdicts until it ends.
  bool is_lost(int rank, double time) {
    const auto connection = connections_.find(rank);
    return connection == connections_.end() || connection->second.state() == LineSocket::State::kEnded ||
           time - record(rank).heard >= limit_;
  }

  /// Passes a verdict, if there is cause and it is for this rank to do so.
  void consider(double time) {
    std::size_t place = 0;
    while (place < judges_.size() && judges_[place] != me_) ++place;
    const bool judge_here = place < judges_.size();
    const double patience = 1 + (judge_here ? kPatience * static_cast<double>(place) : kLastPatience);
    for (std::size_t i = 0; i < place; ++i)
      if (!is_lost(judges_[i], time)) {
        evidence_ = kNone;
        return;  // it is for that judge
      }
    const auto verdict = judge(records_, time, limit_ * (place == 0 ? 1 : patience));
    if (!verdict) {
      evidence_ = kNone;
      return;
    }
    evidence_ = std::min(evidence_, time);
    if (time - evidence_ >= kGrace) pass(*verdict);
  }

  void pass(const Verdict& verdict) {
    ending_.print(verdict.message);
    for (auto& [rank, connection] : connections_)
      connection.send(line_of("verdict", std::to_string(verdict.exit_code)));
    const auto deadline = Clock::now() + milliseconds(200);
    const auto all_sent = [&] {
      return std::ranges::all_of(connections_, [](auto& entry) {
        return entry.second.state() != LineSocket::State::kOpen || entry.second.flush();
      });
    };
    while (!all_sent() && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(5));
    end(verdict.exit_code);
  }

  static constexpr double kNone = std::numeric_limits<double>::infinity();

  std::atomic<bool> over_ = false;  // a verdict was passed or heard of
  std::mutex mutex_;                // guards all below
  Communicator* communicator_;
  CollectiveCall last_call_;  // after release()
  int me_;
  double limit_, period_;  // seconds
  Ending ending_;
  ThreadTraffic traffic_;
  std::string token_, where_ = "start", own_failure_;
  std::vector<RankRecord> records_;  // [ranks]
  std::vector<int> judges_;          // ascending
  LineSocket listening_;
  std::vector<LineSocket> strangers_;      // have not said who they are
  std::map<int, LineSocket> connections_;  // by rank
  double evidence_ = kNone;                // since when there is cause for a verdict
  std::jthread thread_;
};

Watchdog::Watchdog(Communicator& ranks, double seconds, Ending ending) {
  if (ranks.size() > 1 && seconds > 0) impl_ = std::make_unique<Impl>(ranks, seconds, std::move(ending));
}

Watchdog::~Watchdog() = default;

void Watchdog::at(const std::string& where) {
  if (impl_) impl_->at(where);
}

void Watchdog::fail(int exit_code, const std::string& cause) {
  if (impl_) impl_->fail(exit_code, cause);
}

void Watchdog::release() {
  if (impl_) impl_->release();
}

StartLimit::StartLimit(double seconds, Watchdog::Ending ending) {
  const Launch started = launch();
  if (seconds <= 0 || !started.several()) return;
  const double turn = std::min<double>(started.rank, 10);
  thread_ = std::jthread([=, rank = started.rank, ending = std::move(ending)](const std::stop_token& stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any().wait_for(lock, stop, std::chrono::duration<double>(seconds + turn),
                                           [] { return false; });
    if (stop.stop_requested()) return;
    ending.print("rank " + std::to_string(rank) + " on " + host_name() + ": the ranks have not met within " +
                 std::to_string(std::lround(seconds)) +
                 " s of their start: one of them is stopped, or cannot be reached from here");
    ending.exit(1);
  });
}

}  // namespace infalign::distributed
