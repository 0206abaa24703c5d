#include "core/stages/narrow_model.h"

#include <vector>

namespace infalign::stages {

using kernels::Bfloat16;
using model::NarrowParameters;

NarrowModel::NarrowModel(const kernels::Stream& on, const model::Transformer& transformer,
                         ParameterShards* shards)
    : on_(on),
      transformer_(transformer),
      shards_(shards),
      values_(transformer.layout(), on, shards == nullptr),
      held_{0, transformer.layout().size()} {
  if (shards_ == nullptr) return;
  const auto held = shards_->held(transformer.layout().size());
  held_ = {held.begin, held.size()};
  matrices_ = shards_->hold<Bfloat16>(transformer.layout().size());
}

distributed::NarrowCopy NarrowModel::copy(std::optional<std::uint64_t> rounding_seed) {
  distributed::NarrowCopy copy{shards_ == nullptr ? values_.matrices() : matrices_.own<Bfloat16>(),
                               values_.vectors(),
                               {},
                               rounding_seed};
  for (const auto& view : transformer_.layout().views())
    if (!NarrowParameters::is_narrow(view)) copy.vectors_at.push_back({view.offset, view.offset + view.size});
  return copy;
}

void NarrowModel::read(const ReadParameters& read) {
  const auto matrices = shards_ == nullptr ? values_.matrices() : matrices_.own<Bfloat16>();
  std::vector<float> values;
  std::vector<Bfloat16> rounded;
  for (const auto& view : transformer_.layout().views()) {
    model::ParameterRange part{view.offset, view.size};
    const bool is_narrow = NarrowParameters::is_narrow(view);
    if (is_narrow && !part.meets(held_)) continue;
    if (is_narrow) part = part.common(held_);
    values.resize(static_cast<std::size_t>(part.size));
    read({part.offset, part.offset + part.size}, values);
    if (!is_narrow) {
      kernels::upload<float>(on_, values, values_.vector(view.offset));
      continue;
    }
    rounded.resize(values.size());
    kernels::round_to_bfloat16({}, part.size, values.data(), rounded.data());
    kernels::upload<Bfloat16>(on_, rounded, matrices.data() + (part.offset - held_.offset));
  }
  if (shards_ != nullptr) shards_->meet();
}

void NarrowModel::prepare(kernels::Precision precision, model::Weights& weights) const {
  const auto& layout = transformer_.layout();
  const auto& config = transformer_.config();
  if (shards_ == nullptr)
    weights.prepare(on_, layout, config, values_, kernels::Use::kTraining, precision);
  else
    weights.prepare(on_, layout, config, values_, matrices_, kernels::Use::kTraining, precision);
}

}  // namespace infalign::stages
