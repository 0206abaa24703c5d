// What no key can tell alone: whether the stages have what they need and the files named are there, and
// whether the values fit each other. Values in which a problem is known already are not compared again.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>

#include "core/experiment/document.h"
#include "core/experiment/experiment.h"
#include "core/experiment/problems.h"

namespace infalign::experiment {

/// An experiment that is being checked, and the way to say what is wrong with the value at a path.
class Checker {
 public:
  Checker(const Experiment& experiment, const Node& document, Problems& problems)
      : e_(experiment), document_(document), problems_(problems) {}

 protected:
  void refuse(const std::string& path, const std::string& message) {
    problems_.add(place_of(document_, path), path, message);
  }
  void warn(const std::string& path, const std::string& message) {
    problems_.warn(place_of(document_, path), path, message);
  }
  bool sound(std::initializer_list<std::string> paths) const {
    return std::ranges::all_of(paths, [&](const std::string& path) { return problems_.sound(path); });
  }

  const Experiment& e_;
  const Node& document_;
  Problems& problems_;
};

/// Stages in order, their inputs given, files and folders there.
void check_inputs(const Experiment& experiment, const Node& document, Problems& problems);

/// Values that are possible one by one, but not together, or not in this build; warnings for what is hardly
/// meant.
void check_values(const Experiment& experiment, const Node& document, Problems& problems);

}  // namespace infalign::experiment
