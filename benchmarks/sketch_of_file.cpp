// sketch_of_file REWARDS: the pooled sketch of a file of raw float32 rewards, and its second pass, as one
// line of JSON with seconds of CPU time, bytes that ranks would sum, and the estimated ranks of the rewards
// at levels 0.01 to 0.99. peers/sketch.py runs it beside other sketches on the same rewards.
#include <algorithm>
#include <ctime>
#include <exception>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/alignment/sketch.h"

namespace {

using infalign::alignment::QuantileRefinement;
using infalign::alignment::RewardDistribution;
using infalign::alignment::RewardSketch;

std::vector<float> read_rewards(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<float> rewards(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0).read(reinterpret_cast<char*>(rewards.data()),
                     static_cast<std::streamsize>(rewards.size() * sizeof(float)));
  return rewards;
}

/// Seconds of CPU time, the best of three.
template <class Work>
double seconds_of(Work&& work) {
  double best = 1e300;
  for (int i = 0; i < 3; ++i) {
    const std::clock_t start = std::clock();
    work();
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("usage: sketch_of_file REWARDS");
  const std::vector<float> rewards = read_rewards(argv[1]);
  std::vector<double> levels;
  for (int i = 1; i <= 99; ++i) levels.push_back(i / 100.0);

  nlohmann::json result;
  RewardSketch sketch;
  result["sketch_seconds"] = seconds_of([&] {
    sketch = RewardSketch();
    sketch.add(rewards);
  });
  result["sketch_bytes"] = sketch.counts().size_bytes();
  QuantileRefinement refinement(sketch, levels);
  result["refinement_seconds"] = seconds_of([&] {
    refinement = QuantileRefinement(sketch, levels);
    refinement.add(rewards);
  });
  result["refinement_bytes"] = refinement.counts().size_bytes();
  result["refined_quantiles"] = refinement.quantiles();
  std::vector<float> sorted;
  result["sort_seconds"] = seconds_of([&] {
    sorted = rewards;
    std::sort(sorted.begin(), sorted.end());
  });
  const RewardDistribution distribution(sketch);
  for (double level : levels) {
    const float at = sorted[static_cast<std::size_t>(level * static_cast<double>(sorted.size() - 1))];
    result["cumulative"].push_back({at, distribution.cumulative(at)});
  }
  std::cout << result.dump() << '\n';
} catch (const std::exception& error) {
  std::cerr << "sketch_of_file: " << error.what() << '\n';
  return 1;
}
