// `metrics.jsonl`: a JSON object a line for each training step of each stage, appended as the run goes on. A
// resumed stage drops the lines of the steps it is about to do again.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "core/json/json.h"

namespace infalign::stages {

class Metrics {
 public:
  /// Opens the file for `stage` and `variant`, keeping their lines up to `first_step - 1` and all lines of
  /// others. Does nothing when `enabled` is false (all ranks but the root).
  Metrics(const std::filesystem::path& file, std::string stage, std::string variant, std::int64_t first_step,
          bool enabled);

  /// Appends a line: stage, variant, step, then the values.
  void write(std::int64_t step, const OrderedJson& values);

 private:
  std::string stage_, variant_;
  std::ofstream out_;
};

}  // namespace infalign::stages
