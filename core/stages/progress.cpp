#include "core/stages/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <string_view>

namespace infalign::stages {
namespace {

constexpr double kSecondsBetweenRedraws = 0.1, kSecondsBetweenLines = 10;
constexpr double kSmoothingSeconds = 15;  // how far back the rate remembers

std::size_t terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const long width = columns ? std::strtol(columns, nullptr, 10) : 0;
  return width > 0 ? static_cast<std::size_t>(width) : 80;
}

/// "0:07", "12:34", "2:05:00".
std::string clock_time(double seconds) {
  const auto whole = static_cast<long long>(std::ceil(std::max(0.0, seconds)));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string rate_text(double rate) {
  if (rate >= 10) return fmt::format("{:.0f}/s", rate);
  if (rate >= 1) return fmt::format("{:.1f}/s", rate);
  return fmt::format("{:.1f}/min", rate * 60);
}

/// The first `width` characters of UTF-8 text.
std::string cut(const std::string& text, std::size_t width) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (begins && ++characters > width) return text.substr(0, i);
  }
  return text;
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string result;
  for (std::size_t i = 0; i < times; ++i) result += text;
  return result;
}

std::string bar(double fraction, std::size_t width) {
  const auto filled = static_cast<std::size_t>(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(width));
  return repeated("━", filled) + repeated("─", width - filled);
}

}  // namespace

Progress::Display Progress::Display::standard_error() {
  const char* wish = std::getenv("INFALIGN_PROGRESS");
  const bool redraw = wish ? std::string_view(wish) == "bar" : isatty(STDERR_FILENO) == 1;
  return {&std::cerr, redraw, terminal_width(), [] {
            return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
          }};
}

Progress::Progress(std::string title, std::int64_t total, bool enabled)
    : Progress(std::move(title), total, enabled, Display::standard_error()) {}

Progress::Progress(std::string title, std::int64_t total, bool enabled, Display display)
    : title_(std::move(title)),
      total_(total),
      enabled_(enabled),
      display_(std::move(display)),
      started_(display_.clock()),
      last_shown_(started_) {}

Progress::~Progress() {
  if (open_) *display_.stream << '\n' << std::flush;
}

void Progress::update(std::int64_t done, const std::string& note) {
  if (!enabled_) return;
  const double now = display_.clock();
  measure(done, now);
  if (now - last_shown_ < (display_.redraw ? kSecondsBetweenRedraws : kSecondsBetweenLines)) return;
  show(display_.redraw ? redrawn_line(note) : fmt::format("{}  {}", title_, status(note)), now);
}

void Progress::finish(const std::string& note) {
  if (!enabled_) return;
  const double now = display_.clock();
  const std::string line = fmt::format("{}  {}/{} in {}{}{}", title_, done_, total_,
                                       clock_time(now - started_), note.empty() ? "" : "  ", note);
  show(line, now);
  if (open_) *display_.stream << '\n' << std::flush;
  open_ = false;
}

void Progress::measure(std::int64_t done, double now) {
  if (counting_ && now > last_measured_) {
    const double elapsed = now - last_measured_;
    const double latest = static_cast<double>(done - done_) / elapsed;
    const double weight = rate_ > 0 ? 1 - std::exp(-elapsed / kSmoothingSeconds) : 1;
    rate_ += weight * (latest - rate_);
  }
  counting_ = true;
  done_ = done;
  last_measured_ = now;
}

void Progress::show(const std::string& line, double now) {
  last_shown_ = now;
  if (display_.redraw) {
    *display_.stream << '\r' << cut(line, display_.width) << "\x1b[K"
                     << std::flush;  // K: erase what is left of the old line
    open_ = true;
  } else {
    *display_.stream << line << '\n' << std::flush;
  }
}

/// "57/120  2.3/s  0:27 left  kl 0.43".
std::string Progress::status(const std::string& note) const {
  std::string text = fmt::format("{}/{}", done_, total_);
  if (rate_ > 0) {
    text += fmt::format("  {}  {} left", rate_text(rate_),
                        clock_time(static_cast<double>(total_ - done_) / rate_));
  }
  return note.empty() ? text : text + "  " + note;
}

std::string Progress::redrawn_line(const std::string& note) const {
  constexpr std::size_t kLongestBar = 30, kShortestBar = 5;
  const std::string words = status(note);
  const std::size_t taken = title_.size() + words.size() + 4;
  const std::size_t room = display_.width > taken ? display_.width - taken : 0;
  if (room < kShortestBar) return title_ + "  " + words;
  const double fraction = total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 1;
  return title_ + "  " + bar(fraction, std::min(room, kLongestBar)) + "  " + words;
}

}  // namespace infalign::stages
