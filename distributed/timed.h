#pragma once

#include <chrono>

namespace infalign::distributed {

/// Adds the seconds of a scope to a sum, double or std::atomic<double>.
template <class Sum>
class Timed {
 public:
  explicit Timed(Sum& seconds) : seconds_(seconds) {}
  ~Timed() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Sum& seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace infalign::distributed
