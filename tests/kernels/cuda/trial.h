// One run of an operation on one device. A case describes its arguments once, as numbers that follow from the
// case alone; the trial puts them on the device and brings the results back.
#pragma once

#include <any>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"

namespace infalign::kernels::testing {

struct Result {
  std::string name;
  std::vector<double> values;
};

class Trial {
 public:
  explicit Trial(Stream stream) : on(std::move(stream)) {}

  const Stream on;

  /// An argument that is read.
  template <class T>
  const T* in(const std::vector<T>& values) {
    return place(values);
  }
  /// One that is written, or added to, from `initial` on; it is a result of that name.
  template <class T>
  T* out(const std::string& name, const std::vector<T>& initial) {
    T* memory = place(initial);
    const auto n = initial.size();
    results_.push_back([this, name, memory, n] {
      std::vector<T> values(n);
      download(on, static_cast<const T*>(memory), std::span<T>(values));
      return Result{name, {values.begin(), values.end()}};
    });
    return memory;
  }

  std::vector<Result> results() {
    std::vector<Result> all;
    for (const auto& fetch : results_) all.push_back(fetch());
    return all;
  }

 private:
  template <class T>
  T* place(const std::vector<T>& values) {
    auto buffer = std::make_shared<Buffer<T>>(on, values.size());
    upload(on, std::span<const T>(values), buffer->data());
    kept_.push_back(buffer);
    return buffer->data();
  }

  std::vector<std::any> kept_;
  std::vector<std::function<Result()>> results_;
};

}  // namespace infalign::kernels::testing
