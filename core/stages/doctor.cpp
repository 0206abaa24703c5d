#include "core/stages/doctor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <thread>

#include "core/stages/text_table.h"
#include "core/storage/durable.h"
#include "kernels/precision.h"

namespace infalign::stages {
namespace {

constexpr double kMostSkew = 1;                       // seconds
constexpr std::int64_t kAllReduceElements = 2 << 20;  // 16 MiB of int64
constexpr std::int64_t kWrittenBytes = 16 << 20;      // by each rank
constexpr int kRounds = 5;

double seconds_of(auto time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }
double stopwatch() { return seconds_of(std::chrono::steady_clock::now()); }
double wall_clock() { return seconds_of(std::chrono::system_clock::now()); }

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "unknown";
}

/// Of this rank against rank 0, in seconds: the middle of some rounds, each of which begins with a barrier.
double clock_skew(distributed::Communicator& ranks) {
  std::vector<double> differences;
  for (int round = 0; round < kRounds; ++round) {
    ranks.barrier();
    const double mine = wall_clock();
    const auto all = distributed::all_gather_concatenated<double>(ranks, std::span(&mine, 1));
    differences.push_back(mine - all.front());
  }
  return median(differences);
}

/// Seconds of an all-reduce of so many integers: the median of some.
double all_reduce_seconds(distributed::Communicator& ranks, std::int64_t elements) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(elements), 1);
  std::vector<double> seconds;
  for (int round = 0; round <= kRounds; ++round) {
    ranks.barrier();
    const double start = stopwatch();
    ranks.all_reduce_sum(std::span(values));
    if (round > 0) seconds.push_back(stopwatch() - start);  // the first opens connections
  }
  double slowest = median(seconds);
  ranks.all_reduce_max(std::span(&slowest, 1));
  return slowest;
}

/// Writes a file of its own, flushed to the disk, and removes it. What went wrong, or "".
std::string write_speed(const std::filesystem::path& file, double& megabytes_per_second) {
  try {
    const std::string content(kWrittenBytes, 'i');
    const double start = stopwatch();
    storage::write_file_durably(file, content);
    megabytes_per_second = static_cast<double>(kWrittenBytes) / 1e6 / (stopwatch() - start);
    std::filesystem::remove(file);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// Whether this rank sees what rank 0 writes.
bool sees_the_same_folder(distributed::Communicator& ranks, const std::filesystem::path& folder) {
  const auto mark = folder / ".doctor";
  std::string word = std::to_string(static_cast<std::int64_t>(wall_clock() * 1e6));
  word.resize(24, ' ');
  ranks.broadcast(std::as_writable_bytes(std::span(word)), 0);
  if (ranks.root()) {
    try {
      storage::write_file_durably(mark, word);
    } catch (const std::exception&) {  // told by write_speed
    }
  }
  ranks.barrier();
  bool same = false;
  for (int attempt = 0; attempt < 20 && !same; ++attempt) {  // some file systems show a new file late
    std::error_code ignored;
    if (attempt > 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    same = std::filesystem::exists(mark, ignored) && storage::read_file(mark) == word;
  }
  ranks.barrier();
  std::error_code ignored;
  if (ranks.root()) std::filesystem::remove(mark, ignored);
  return same;
}

std::string bytes_text(double bytes) {
  return bytes >= 1e12 ? fmt::format("{:.1f} TB", bytes / 1e12) : fmt::format("{:.1f} GB", bytes / 1e9);
}

}  // namespace

std::vector<std::string> problems_of(const OrderedJson& ranks, std::int64_t disk_bytes) {
  std::vector<std::string> problems;
  const auto name = [](const OrderedJson& rank) {
    return fmt::format("rank {} on {}", rank["rank"].get<int>(), rank["host"].get<std::string>());
  };
  const OrderedJson& first = ranks[0];
  for (const auto& rank : ranks) {
    if (rank["version"] != first["version"])
      problems.push_back(fmt::format("{} runs infalign {}, but rank 0 runs {}: install the same on all hosts",
                                     name(rank), rank["version"].get<std::string>(),
                                     first["version"].get<std::string>()));
    if (rank["bfloat16"] != first["bfloat16"])
      problems.push_back(name(rank) +
                         " differs from rank 0 in whether it has bfloat16: results may differ, too");
    if (const double skew = rank["clock_skew"]; std::abs(skew) > kMostSkew)
      problems.push_back(
          fmt::format("the clock of {} is {:.1f} s {} that of rank 0: time limits will not agree", name(rank),
                      std::abs(skew), skew > 0 ? "ahead of" : "behind"));
    if (const std::string failure = rank["write_failure"]; !failure.empty())
      problems.push_back(name(rank) + " cannot write: " + failure);
    else if (!rank["same_folder"].get<bool>())
      problems.push_back(name(rank) +
                         " does not see what rank 0 writes to the output folder: it has to be shared");
    if (const std::int64_t left = rank["free_bytes"]; disk_bytes > 0 && left >= 0 && left < disk_bytes)
      problems.push_back(fmt::format("{} sees {} free in the output folder; the run takes {}", name(rank),
                                     bytes_text(static_cast<double>(left)),
                                     bytes_text(static_cast<double>(disk_bytes))));
  }
  return problems;
}

OrderedJson examine(distributed::Communicator& ranks, const DoctorOptions& options) {
  std::error_code failure;
  if (ranks.root()) std::filesystem::create_directories(options.output, failure);
  ranks.barrier();

  OrderedJson mine{{"rank", ranks.rank()},
                   {"host", host_name()},
                   {"version", options.version},
                   {"processor", processor_name()},
                   {"bfloat16", kernels::has_bfloat16()},
                   {"cores", std::thread::hardware_concurrency()},
                   {"threads", options.threads}};
  mine["clock_skew"] = clock_skew(ranks);
  double speed = 0;
  ranks.barrier();  // all write at the same time, as they will
  const std::string unwritable = write_speed(options.output / fmt::format(".doctor.{}", ranks.rank()), speed);
  mine["write_megabytes_per_second"] = speed;
  mine["write_failure"] = unwritable;
  mine["same_folder"] = sees_the_same_folder(ranks, options.output);
  const auto space = std::filesystem::space(options.output, failure);
  mine["free_bytes"] = failure ? -1 : static_cast<std::int64_t>(space.available);

  const double large = all_reduce_seconds(ranks, kAllReduceElements), small = all_reduce_seconds(ranks, 1);
  const double bytes = static_cast<double>(kAllReduceElements * 8);
  const double moved = 2 * bytes * (ranks.size() - 1) / ranks.size();

  OrderedJson all = OrderedJson::array();
  const std::string text = json_text(mine);
  for (const auto& theirs : ranks.all_gather_bytes(std::as_bytes(std::span(text)))) {
    const auto* begin = reinterpret_cast<const char*>(theirs.data());
    all.push_back(parse_ordered_json({begin, theirs.size()}));
  }
  OrderedJson findings{{"ranks", all},
                       {"all_reduce",
                        {{"bytes", static_cast<std::int64_t>(bytes)},
                         {"gigabytes_per_second", moved / 1e9 / large},
                         {"latency_microseconds", small * 1e6}}},
                       {"output", options.output.string()}};
  findings["problems"] = problems_of(all, options.disk_bytes);
  return findings;
}

std::string doctor_table(const OrderedJson& findings) {
  std::vector<std::vector<std::string>> rows = {
      {"rank", "host", "processor", "cores", "threads", "clock", "writes", "free", "version"}};
  for (const auto& rank : findings["ranks"]) {
    const std::int64_t left = rank["free_bytes"];
    rows.push_back({std::to_string(rank["rank"].get<int>()), rank["host"], rank["processor"],
                    std::to_string(rank["cores"].get<int>()), std::to_string(rank["threads"].get<int>()),
                    fmt::format("{:+.3f} s", rank["clock_skew"].get<double>()),
                    fmt::format("{:.0f} MB/s", rank["write_megabytes_per_second"].get<double>()),
                    left < 0 ? "?" : bytes_text(static_cast<double>(left)), rank["version"]});
  }
  std::string text = aligned_columns(rows) + "\n";
  const auto& all_reduce = findings["all_reduce"];
  if (findings["ranks"].size() > 1)
    text += fmt::format("all-reduce of {} MiB: {:.2f} GB/s; of one number: {:.0f} us\n",
                        all_reduce["bytes"].get<std::int64_t>() >> 20,
                        all_reduce["gigabytes_per_second"].get<double>(),
                        all_reduce["latency_microseconds"].get<double>());
  return text + "output: " + findings["output"].get<std::string>() + "\n";
}

}  // namespace infalign::stages
