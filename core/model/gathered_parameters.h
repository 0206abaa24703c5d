// Parameters of which this process holds a part only, and other processes the rest. A pass names the layer
// that it is at and the one that comes next: the one is waited for and prepared for products, the other is on
// its way meanwhile, into the memory of the layer before. What was gathered is overwritten by what is
// gathered later, so that beside its own part a process has two layers of a model, and what stands on them,
// in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/model/model_config.h"
#include "core/model/narrow_parameters.h"
#include "core/model/parameters.h"
#include "core/model/prepared_part.h"
#include "kernels/device.h"
#include "kernels/linear/linear.h"
#include "kernels/precision.h"

namespace infalign::model {

/// Brings values of a flat buffer from where they are held, into memory of the device of the passes.
class ParameterSource {
 public:
  virtual ~ParameterSource() = default;
  /// Begins to copy ranges, one after the other, into `to`, as they are held, once what was queued before is
  /// done with that memory. They are there after wait().
  virtual void begin(std::vector<ParameterRange> ranges, std::span<std::byte> to) = 0;
  /// Waits for all that was begun, or has what is queued from here on wait for it. Errors:
  /// std::runtime_error where they cannot be had.
  virtual void wait() = 0;
};

/// Memory for what is gathered. Models that compute one after the other share it.
class GatherSpace {
 private:
  friend class GatheredParameters;
  /// Whose part it is that is there, or on its way.
  struct Tag {
    std::int64_t owner = 0, part = 0;
    bool operator==(const Tag&) const = default;
  };
  struct Slot {
    Tag tag;
    bool under_way = false;
    kernels::Buffer<float> values;              // either these
    kernels::Buffer<kernels::Bfloat16> narrow;  // or these, as the model is held
  };
  struct Prepared {
    Tag tag;
    PreparedPart part;
  };

  Slot layers_[2], top_;  // a layer in that of its number's parity
  Prepared layer_, on_top_;
  std::int64_t owners_ = 0;
};

/// How a model's parameters are gathered: from whom, and into what.
struct Gathering {
  std::shared_ptr<ParameterSource> source;
  std::shared_ptr<GatherSpace> space;
  std::span<std::byte> held = {};  // this process's own part, as long as the source is there

  template <class T>
  std::span<T> own() const {
    return {reinterpret_cast<T*>(held.data()), held.size() / sizeof(T)};
  }
};

/// Rows of a table: those asked for, each once, and which of them is which.
template <class T>
struct GatheredRows {
  kernels::Buffer<T> table;         // [distinct rows, width]
  std::vector<std::int32_t> index;  // [rows asked for]
};

/// The parameters of a model as they are now. When they change, this is made anew.
class GatheredParameters {
 public:
  /// Matrices in bfloat16 where there are narrow parameters, whose vectors are held whole. All but `from` is
  /// to outlive this.
  GatheredParameters(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                     Gathering from, const NarrowParameters* narrow, kernels::Use use,
                     kernels::Precision precision);

  /// The pass is at layer `part`, or, with config.layers, on top of them all; `next` comes after it. What is
  /// read below belongs to the part held, or std::logic_error is thrown.
  void hold(std::int64_t part, std::optional<std::int64_t> next);

  const float* at(std::int64_t offset) const;  // of float32 parameters
  const PreparedPart& prepared(std::int64_t part) const;
  const PreparedPart& held() const { return prepared(held_); }

  /// Rows [width] of the table at `offset` of the flat buffer, as they are held: T is float, or Bfloat16
  /// where there are narrow parameters.
  template <class T>
  GatheredRows<T> rows(std::int64_t offset, std::int64_t width, std::span<const std::int32_t> which);

  /// Memory of a space for one model that is held in `stored`.
  static std::int64_t bytes(const ModelConfig& config, kernels::Use use, kernels::Precision precision,
                            kernels::Precision stored = kernels::Precision::kFloat32,
                            kernels::Device device = kernels::Device::kCpu);

 private:
  bool is_top(std::int64_t part) const { return part == config_.layers; }
  GatherSpace::Slot& slot(std::int64_t part) const;
  /// What a part's slot has at this offset.
  template <class T>
  const T* find(const kernels::Buffer<T>& values, std::int64_t part, std::int64_t offset) const;
  void begin(std::int64_t part);
  void wait();
  void prepare(std::int64_t part);

  kernels::Stream on_;
  const ParameterLayout& layout_;
  const ModelConfig& config_;
  Gathering from_;
  const NarrowParameters* narrow_;
  kernels::Use use_;
  kernels::Precision precision_;
  std::int64_t owner_, held_ = kAbsent;
};

}  // namespace infalign::model
