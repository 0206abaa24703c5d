// Where a backward pass adds the gradient of what is trained: a flat buffer, or memory in which the parts of
// a model, its layers, take turns while they are computed.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

namespace infalign::model {

class GradientPlace {
 public:
  /// All of it.
  GradientPlace(std::span<float> all) : at_([all](std::int64_t offset) { return all.data() + offset; }) {}
  /// All of what a span<float> can be made of.
  template <class Flat>
  requires std::convertible_to<Flat&, std::span<float>> GradientPlace(Flat& flat)
      : GradientPlace(std::span<float>(flat)) {}
  /// at(offset) is the place of the gradient of the tensor that begins there, and of those behind it in the
  /// same part. It is asked for as the pass comes to the part.
  explicit GradientPlace(std::function<float*(std::int64_t)> at) : at_(std::move(at)) {}

  float* at(std::int64_t offset) const { return at_(offset); }

 private:
  std::function<float*(std::int64_t)> at_;
};

}  // namespace infalign::model
