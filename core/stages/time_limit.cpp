#include "core/stages/time_limit.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <string_view>

namespace infalign::stages {
namespace {

// Kept free at the end for what has not been measured yet, such as the first checkpoint.
constexpr double kReserve = 30, kReserveShare = 0.05;  // seconds; of the time there is

std::optional<double> seconds(const char* text) {
  if (text == nullptr) return std::nullopt;
  const std::string_view digits(text);
  double value = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || stop != digits.data() + digits.size() || value <= 0) return std::nullopt;
  return value;
}

}  // namespace

std::optional<double> job_end(const experiment::Checkpoint& settings, double now,
                              const std::function<const char*(const char*)>& variable) {
  constexpr double kMinute = 60;
  std::optional<double> end = seconds(variable("SLURM_JOB_END_TIME"));
  if (!settings.time_limit) return end;
  std::optional<double> start = seconds(variable("INFALIGN_JOB_START"));
  if (!start) start = seconds(variable("SLURM_JOB_START_TIME"));
  const double limit = start.value_or(now) + *settings.time_limit * kMinute;
  return std::min(limit, end.value_or(limit));
}

TimeLimit::TimeLimit(std::optional<double> end, Clock clock)
    : end_(end), clock_(std::move(clock)), last_(clock_()) {
  reserve_ = end_ ? std::clamp(kReserveShare * (*end_ - last_), 0.0, kReserve) : 0;
}

bool TimeLimit::reached() {
  if (!end_) return false;
  const double now = clock_();
  longest_ = std::max(longest_, now - last_);
  last_ = now;
  return now + 2 * longest_ + reserve_ >= *end_;
}

TimeLimit::Clock TimeLimit::system_clock() {
  return [] {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
}

}  // namespace infalign::stages
