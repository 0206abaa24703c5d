// Every operation of kernels/ on a GPU, a line each: how long it takes, the bytes and operations a second
// that this means, and what share of the device's own peaks they are, which are measured first in the same
// run; cuBLASLt as it comes beside our products. Calls are queued one after the other for long enough that
// the wait for them does not count, and the median of such repeats is shown. What fits a cache is read from
// there, and so may come to more than the memory's peak.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "gpu/rows.h"
#include "kernels/cuda/operations.h"

namespace infalign::benchmarks {
namespace {

struct Options {
  std::int64_t tokens = 0;
  bool is_small = false, is_json = false, is_list = false;
  int repeats = 9;
  double milliseconds = 20;  // of a repeat, at least
};

struct Peaks {
  double bytes = 0;                          // a second
  std::map<std::string, double> operations;  // a second, by dtype
};

double seconds_of(const kernels::Stream& on, const std::function<void()>& call, std::int64_t calls) {
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t i = 0; i < calls; ++i) call();
  on.synchronise();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds of one call.
double measured(const kernels::Stream& on, const Row& row, const Options& options) {
  const std::function<void()> call = row.prepare(on);
  on.synchronise();
  seconds_of(on, call, 1);  // what is done once
  std::int64_t calls = 1;
  while (seconds_of(on, call, calls) * 1e3 < options.milliseconds) calls *= 2;
  std::vector<double> seconds;
  for (int repeat = 0; repeat < options.repeats; ++repeat)
    seconds.push_back(seconds_of(on, call, calls) / static_cast<double>(calls));
  std::nth_element(seconds.begin(), seconds.begin() + options.repeats / 2, seconds.end());
  return seconds[static_cast<std::size_t>(options.repeats / 2)];
}

nlohmann::ordered_json described(const Row& row) {
  return {{"operation", row.operation}, {"peer", row.peer},        {"shape", row.shape},
          {"dtype", row.cost.dtype},    {"bytes", row.cost.bytes}, {"operations", row.cost.operations},
          {"paper", row.paper}};
}

void show(const Row& row, double seconds, const Peaks& peaks, const Options& options) {
  const double bytes = row.cost.bytes / seconds, operations = row.cost.operations / seconds;
  const auto peak = peaks.operations.find(row.cost.dtype);
  const double of_memory = peaks.bytes > 0 ? bytes / peaks.bytes : 0;
  const double of_products = peak == peaks.operations.end() ? 0 : operations / peak->second;
  if (options.is_json) {
    nlohmann::ordered_json line = described(row);
    line.update({{"microseconds", seconds * 1e6}, {"of_memory", of_memory}, {"of_products", of_products}});
    std::printf("%s\n", line.dump().c_str());
  } else {
    std::printf("%-30s %-32s %-8s %11.1f %8.1f %7.1f%%",
                row.peer.empty() ? row.operation.c_str() : ("  " + row.peer).c_str(), row.shape.c_str(),
                row.cost.dtype.c_str(), seconds * 1e6, bytes * 1e-9, 100 * of_memory);
    if (operations > 0) std::printf(" %8.1f %7.1f%%", operations * 1e-12, 100 * of_products);
    std::printf("\n");
  }
  std::fflush(stdout);
}

/// Throws where an operation has no row.
void require_all(const std::vector<Row>& rows) {
  std::set<std::string> missing{"embedding_forward", "embedding_add"};
#define INFALIGN_ROW(operation) missing.insert(#operation);
  INFALIGN_CUDA_OPERATIONS(INFALIGN_ROW)
#undef INFALIGN_ROW
  for (const Row& row : rows) missing.erase(row.operation);
  for (const std::string& operation : missing)
    throw std::logic_error("benchmarks/gpu/rows.cpp has no row for " + operation);
}

/// The program's exit code.
int run(const Options& options) {
  Sizes sizes = options.is_small ? small_sizes() : Sizes();
  if (options.tokens > 0) sizes.tokens = options.tokens;
  const std::vector<Row> all = rows(sizes);
  require_all(all);
  if (options.is_list) {
    for (const Row& row : all) std::printf("%s\n", described(row).dump().c_str());
    return 0;
  }
  if (kernels::cuda_device_count() == 0) {
    std::fprintf(stderr, "gpu_benchmark: there is no GPU to measure\n");
    return 2;
  }
  const kernels::Stream on(kernels::Device::kCuda);
  if (options.is_json)
    std::printf("%s\n", nlohmann::ordered_json{{"tokens", sizes.tokens},
                                               {"heads", sizes.heads},
                                               {"kv_heads", sizes.kv_heads},
                                               {"head_dim", sizes.head_dim},
                                               {"parameters", sizes.parameters}}
                            .dump()
                            .c_str());
  else
    std::printf("%-30s %-32s %-8s %11s %8s %8s %8s %8s\n", "operation", "shape", "dtype", "us", "GB/s",
                "of copy", "TFLOP/s", "of peak");
  Peaks reached;
  for (const Row& row : peaks(sizes)) {
    const double seconds = measured(on, row, options);
    if (row.cost.operations > 0)
      reached.operations[row.cost.dtype] = row.cost.operations / seconds;
    else
      reached.bytes = row.cost.bytes / seconds;
    show(row, seconds, reached, options);
  }
  int code = 0;
  for (const Row& row : all) try {
      show(row, measured(on, row, options), reached, options);
    } catch (const std::exception& error) {  // of one operation: the others are measured
      std::fprintf(stderr, "%s %s: %s\n", row.operation.c_str(), row.peer.c_str(), error.what());
      code = 1;
    }
  return code;
}

}  // namespace
}  // namespace infalign::benchmarks

int main(int argc, char** argv) {
  infalign::benchmarks::Options options;
  CLI::App app("Every operation of kernels/ on a GPU, beside the device's measured peaks.");
  app.add_option("--tokens", options.tokens, "in the place of 8,192")->check(CLI::Range(1, 1 << 20));
  app.add_flag("--small", options.is_small, "tiny sizes, to see that it runs");
  app.add_option("--repeats", options.repeats, "of which the median is shown")->check(CLI::Range(1, 1000));
  app.add_option("--milliseconds", options.milliseconds, "that a repeat takes at least")
      ->check(CLI::Range(0.0, 1e4));
  app.add_flag("--json", options.is_json, "a JSON object a line");
  app.add_flag("--list", options.is_list, "what would be measured, as JSON; takes no GPU");
  CLI11_PARSE(app, argc, argv);
  try {
    return infalign::benchmarks::run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_benchmark: %s\n", error.what());
    return 1;
  }
}
