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
#include "kernels/values.h"

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
    add_result(name, memory, initial.size());
    return memory;
  }

  /// Activations, which a GPU has in bfloat16 where `stored` says so. The CPU, which has them in float32, is
  /// given what rounding leaves of them.
  ConstValues in(Precision stored, const std::vector<float>& values) { return place_values(stored, values); }
  Values out(const std::string& name, Precision stored, const std::vector<float>& initial) {
    const Values memory = place_values(stored, initial);
    if (memory.stored() == Precision::kBfloat16) {
      const auto n = initial.size();
      results_.push_back([this, name, memory, n] {
        std::vector<Bfloat16> narrow(n);
        download(on, static_cast<const Bfloat16*>(memory.as<Bfloat16>()), std::span<Bfloat16>(narrow));
        Result result{name, {}};
        for (const Bfloat16 value : narrow) result.values.push_back(from_bfloat16(value));
        return result;
      });
    } else {
      add_result(name, memory.floats(), initial.size());
    }
    return memory;
  }

  std::vector<Result> results() {
    std::vector<Result> all;
    for (const auto& fetch : results_) all.push_back(fetch());
    return all;
  }

 private:
  template <class T>
  void add_result(const std::string& name, const T* memory, std::size_t n) {
    results_.push_back([this, name, memory, n] {
      std::vector<T> values(n);
      download(on, memory, std::span<T>(values));
      return Result{name, {values.begin(), values.end()}};
    });
  }

  Values place_values(Precision stored, const std::vector<float>& values) {
    if (stored == Precision::kFloat32) return place(values);
    std::vector<Bfloat16> narrow;
    for (const float value : values) narrow.push_back(to_bfloat16(value));
    if (on.device() == Device::kCuda) return place(narrow);
    std::vector<float> rounded;
    for (const Bfloat16 value : narrow) rounded.push_back(from_bfloat16(value));
    return place(rounded);
  }

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
