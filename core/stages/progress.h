// What a person watching sees of a stage: on a terminal one line that is redrawn, with a bar, the rate, the
// time left and a note; in a log plain lines, a few a minute. Only the rank that is told to shows anything.
// The numbers that are kept go to metrics.jsonl, not here.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>

namespace infalign::stages {

class Progress {
 public:
  using Clock = std::function<double()>;  // seconds from any origin

  /// Where the line goes and how. The defaults are those of the program; tests put their own in their place.
  struct Display {
    std::ostream* stream = nullptr;
    bool redraw = false;  // one line redrawn, rather than lines
    std::size_t width = 80;
    Clock clock;

    /// Standard error: redrawn if it is a terminal. mpirun puts a pipe between the terminal and the ranks, so
    /// that the launch script, which sees the terminal, says so with INFALIGN_PROGRESS=bar (or =lines) and
    /// COLUMNS.
    static Display standard_error();
  };

  /// `total` steps of the stage `title` ("align infalign"); silent unless `enabled`.
  Progress(std::string title, std::int64_t total, bool enabled);
  Progress(std::string title, std::int64_t total, bool enabled, Display display);
  /// Leaves the cursor on a line of its own, also when an exception passes.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of `total` steps are done. The first call is where counting starts: a resumed stage has done k
  /// steps already, and these say nothing about the rate.
  void update(std::int64_t done, const std::string& note = "");
  /// The last line, with the time it took.
  void finish(const std::string& note = "");

 private:
  void measure(std::int64_t done, double now);
  void show(const std::string& line, double now);
  std::string status(const std::string& note) const;
  std::string redrawn_line(const std::string& note) const;

  std::string title_;
  std::int64_t total_, done_ = 0;
  bool enabled_, open_ = false;  // open_: a redrawn line stands unfinished
  Display display_;
  double started_, last_shown_, last_measured_ = 0;
  bool counting_ = false;
  double rate_ = 0;  // steps a second, smoothed
};

}  // namespace infalign::stages
