// What is wrong with a configuration, gathered so that a person sees all of it at once instead of one error a
// run.
#pragma once

#include <string>
#include <vector>

namespace infalign::experiment {

/// Where a value was written: "FILE:LINE", "FILE", or "--set key.path".
struct Place {
  static constexpr int kCommandLine = 1 << 30;

  std::string text;
  int line = 0;  // orders problems: 0 for the file as a whole, kCommandLine for overrides
};

class Problems {
 public:
  void add(const Place& place, const std::string& path, const std::string& message);
  void warn(const Place& place, const std::string& path, const std::string& message);

  /// Declares that the value at `path` is not to be trusted although no problem names it.
  void distrust(const std::string& path) { distrusted_.push_back(path); }

  /// True if nothing is known against the value at `path` or the section it stands in: only such values are
  /// worth comparing with others, or one slip would be reported many times.
  bool sound(const std::string& path) const;

  bool empty() const { return problems_.empty(); }
  /// One line a problem, in the file's order, overrides last.
  std::string text() const;
  std::vector<std::string> warnings() const;

 private:
  struct Line {
    int order;
    std::string text;
  };
  /// What several variants inherit is wrong once.
  static void add_once(std::vector<Line>& lines, Line line);
  static std::vector<std::string> in_order(std::vector<Line> lines);

  std::vector<Line> problems_, warnings_;
  std::vector<std::string> distrusted_;
};

}  // namespace infalign::experiment
