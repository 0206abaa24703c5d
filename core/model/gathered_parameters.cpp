#include "core/model/gathered_parameters.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/trace.h"

namespace infalign::model {
namespace {

/// Where a part's values lie in the flat buffer. A head that is the embedding stands before the layers.
std::vector<ParameterRange> ranges_of(const ParameterLayout& layout, const ModelConfig& config,
                                      std::int64_t part) {
  const auto begin_of = [&](std::int64_t i) {
    return i < config.layers ? layout.layer(i).input_norm.weight : layout.final_norm().weight;
  };
  if (part < config.layers) return {{begin_of(part), begin_of(part + 1) - begin_of(part)}};
  std::vector<ParameterRange> ranges = {{begin_of(part), layout.size() - begin_of(part)}};
  if (layout.head() == layout.embedding())
    ranges.push_back({layout.head(), config.vocab_size * config.hidden_size});
  return ranges;
}

std::int64_t values_in(const std::vector<ParameterRange>& ranges) {
  std::int64_t sum = 0;
  for (const ParameterRange& range : ranges) sum += range.size;
  return sum;
}

}  // namespace

GatheredParameters::GatheredParameters(const kernels::Stream& on, const ParameterLayout& layout,
                                       const ModelConfig& config, Gathering from,
                                       const NarrowParameters* narrow, kernels::Use use,
                                       kernels::Precision precision)
    : on_(on),
      layout_(layout),
      config_(config),
      from_(std::move(from)),
      narrow_(narrow),
      use_(use),
      precision_(precision),
      owner_(++from_.space->owners_) {}

GatherSpace::Slot& GatheredParameters::slot(std::int64_t part) const {
  return is_top(part) ? from_.space->top_ : from_.space->layers_[part % 2];
}

void GatheredParameters::hold(std::int64_t part, std::optional<std::int64_t> next) {
  begin(part);
  if (slot(part).under_way) wait();
  if (next) begin(*next);
  prepare(part);
  held_ = part;
}

void GatheredParameters::wait() {
  const kernels::Span span("wait for parameters");
  from_.source->wait();
  for (auto* there : {&from_.space->layers_[0], &from_.space->layers_[1], &from_.space->top_})
    there->under_way = false;
}

void GatheredParameters::begin(std::int64_t part) {
  GatherSpace::Slot& to = slot(part);
  if (to.tag == GatherSpace::Tag{owner_, part}) return;
  if (to.under_way) wait();  // what nobody came to need is not to arrive later than what comes now
  const auto ranges = ranges_of(layout_, config_, part);
  const auto size = static_cast<std::size_t>(values_in(ranges));
  for (auto* prepared : {&from_.space->layer_, &from_.space->on_top_})  // of what is overwritten
    if (prepared->tag == to.tag) prepared->tag = {};
  to.tag = {};
  const auto gather = [&](auto& values) {
    values.reserve(on_, size);
    from_.source->begin(ranges, std::as_writable_bytes(values.span().first(size)));
  };
  if (narrow_ != nullptr)
    gather(to.narrow);
  else
    gather(to.values);
  to.tag = {owner_, part};
  to.under_way = true;
}

template <class T>
const T* GatheredParameters::find(const kernels::Buffer<T>& values, std::int64_t part,
                                  std::int64_t offset) const {
  std::int64_t place = 0;
  for (const ParameterRange& range : ranges_of(layout_, config_, part)) {
    if (offset >= range.offset && offset < range.offset + range.size)
      return values.data() + place + offset - range.offset;
    place += range.size;
  }
  throw std::logic_error("GatheredParameters: the parameter at " + std::to_string(offset) +
                         " does not belong to part " + std::to_string(part) + ", which is held");
}

void GatheredParameters::prepare(std::int64_t part) {
  GatherSpace::Prepared& to = is_top(part) ? from_.space->on_top_ : from_.space->layer_;
  if (to.tag == GatherSpace::Tag{owner_, part}) return;
  const kernels::Span span("prepare weights");
  to.tag = {};
  const GatherSpace::Slot& from = slot(part);
  if (narrow_ != nullptr)
    to.part.prepare(
        on_, layout_, config_, part, use_, precision_,
        [&](std::int64_t offset) { return find(from.narrow, part, offset); },
        [&](std::int64_t offset) { return narrow_->vector(offset); });
  else
    to.part.prepare(
        on_, layout_, config_, part, use_, precision_,
        [&](std::int64_t offset) { return find(from.values, part, offset); },
        [&](std::int64_t offset) { return find(from.values, part, offset); });
  to.tag = {owner_, part};
}

const float* GatheredParameters::at(std::int64_t offset) const {
  if (held_ == kAbsent) throw std::logic_error("GatheredParameters: no part is held");
  return find(slot(held_).values, held_, offset);
}

const PreparedPart& GatheredParameters::prepared(std::int64_t part) const {
  const GatherSpace::Prepared& there = is_top(part) ? from_.space->on_top_ : from_.space->layer_;
  if (there.tag != GatherSpace::Tag{owner_, part})
    throw std::logic_error("GatheredParameters: part " + std::to_string(part) + " is not held");
  return there.part;
}

template <class T>
GatheredRows<T> GatheredParameters::rows(std::int64_t offset, std::int64_t width,
                                         std::span<const std::int32_t> which) {
  std::vector<std::int32_t> distinct(which.begin(), which.end());
  std::ranges::sort(distinct);
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  std::vector<ParameterRange> ranges;
  for (const std::int32_t row : distinct) {
    const std::int64_t begin = offset + row * width;
    if (!ranges.empty() && ranges.back().offset + ranges.back().size == begin)
      ranges.back().size += width;
    else
      ranges.push_back({begin, width});
  }
  GatheredRows<T> rows{.table = kernels::Buffer<T>(on_, distinct.size() * static_cast<std::size_t>(width)),
                       .index = {}};
  from_.source->begin(std::move(ranges), std::as_writable_bytes(rows.table.span()));
  rows.index.reserve(which.size());
  for (const std::int32_t row : which)
    rows.index.push_back(
        static_cast<std::int32_t>(std::ranges::lower_bound(distinct, row) - distinct.begin()));
  const kernels::Span span("wait for parameters");
  from_.source->wait();
  return rows;
}

template GatheredRows<float> GatheredParameters::rows(std::int64_t, std::int64_t,
                                                      std::span<const std::int32_t>);
template GatheredRows<kernels::Bfloat16> GatheredParameters::rows(std::int64_t, std::int64_t,
                                                                  std::span<const std::int32_t>);

std::int64_t GatheredParameters::bytes(const ModelConfig& config, kernels::Use use,
                                       kernels::Precision precision, kernels::Precision stored,
                                       kernels::Device device) {
  const ParameterLayout layout(config);
  std::int64_t values = values_in(ranges_of(layout, config, config.layers)), largest = 0;
  for (std::int64_t i = 0; i < config.layers; ++i)
    largest = std::max(largest, values_in(ranges_of(layout, config, i)));
  values += std::min<std::int64_t>(2, config.layers) * largest;
  const bool narrow = stored == kernels::Precision::kBfloat16;
  std::int64_t bytes = values * static_cast<std::int64_t>(narrow ? sizeof(kernels::Bfloat16) : sizeof(float));
  for (const Matrix which : kMatrices) {
    const MatrixParts parts = parts_of(config, which);
    bytes += kernels::Linear::bytes(parts.rows(), parts.in, precision, use, stored, device);
  }
  if (!config.score_head)
    bytes += kernels::Linear::bytes(config.vocab_size, config.hidden_size, precision, use, stored, device);
  return bytes;
}

}  // namespace infalign::model
