// The same kernels as the training forward pass, one token for each row, with the cache in place of the
// earlier rows.
#include "core/model/decoder.h"

#include <algorithm>

#include "kernels/embedding/embedding.h"

namespace infalign::model {
namespace {

/// Room for `positions` in whole blocks of 16, an odd number of them: slots a power of two apart would
/// compete for the same few sets of the processor's cache.
std::int64_t capacity_for(std::int64_t positions) {
  constexpr std::int64_t kBlock = 16;
  return ((positions + kBlock - 1) / kBlock | 1) * kBlock;
}

/// Floats of one layer's keys, or values.
std::int64_t layer_stride(const ModelConfig& config, std::int64_t slots, std::int64_t positions) {
  return slots * config.kv_heads * config.head_dim * capacity_for(positions);
}

}  // namespace

void DecodeRows::add(std::int32_t prompt_index, std::int32_t length_of_prompt) {
  slot.push_back(static_cast<std::int32_t>(token.size()));
  token.push_back(0);
  position.push_back(length_of_prompt - 1);
  prompt.push_back(prompt_index);
  prompt_length.push_back(length_of_prompt);
  own_position.push_back(-1);
  own_length.push_back(0);
}

void DecodeRows::advance() {
  for (auto* places : {&position, &own_position, &own_length}) {
    for (std::int32_t& place : *places) ++place;
  }
}

void DecodeRows::compact(std::span<const char> keep) {
  for (auto* column : {&token, &position, &prompt, &prompt_length, &slot, &own_position, &own_length}) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < column->size(); ++i) {
      if (keep[i]) (*column)[kept++] = (*column)[i];
    }
    column->resize(kept);
  }
}

void KeyValueCache::reserve(const kernels::Stream& on, const ModelConfig& config, std::int64_t slots,
                            std::int64_t positions, kernels::Precision stored) {
  slots_ = slots;
  capacity_ = capacity_for(positions);
  stride_ = layer_stride(config, slots, positions);
  keys_.reserve(on, static_cast<std::size_t>(config.layers * stride_), stored);
  values_.reserve(on, static_cast<std::size_t>(config.layers * stride_), stored);
}

std::int64_t KeyValueCache::bytes(const ModelConfig& config, std::int64_t slots, std::int64_t positions,
                                  kernels::Precision stored) {
  return 2 * config.layers * layer_stride(config, slots, positions) * kernels::size_of(stored);
}

kernels::CacheView KeyValueCache::layer(std::int64_t i) {
  return {.keys = keys_.values() + i * stride_,
          .values = values_.values() + i * stride_,
          .slots = slots_,
          .capacity = capacity_};
}

template <class Visit>
void Decoder::for_each_row_buffer(const ModelConfig& config, Visit&& visit) {
  const std::int64_t C = config.hidden_size, F = config.intermediate_size;
  visit(residual_, C);
  visit(branch_, C);
  visit(normed_, C);
  visit(inverse_rms_, 1);
  visit(qkv_, config.qkv_width());
  visit(attended_, config.q_width());
  visit(gate_up_, config.gate_up_width());
  visit(gated_, F);
  if (config.qk_norms) {
    visit(raw_qkv_, config.qkv_width());
    visit(qk_inverse_rms_, config.heads + config.kv_heads);
  }
  if (config.norms_after_branches) visit(raw_branch_, C);
  visit(hidden_, C);
}

DecoderBytes Decoder::bytes(const ModelConfig& config, std::int64_t prompts, std::int64_t prompt_tokens,
                            std::int64_t longest, std::int64_t rows, std::int64_t max_new_tokens,
                            kernels::Precision stored) {
  DecoderBytes bytes;
  bytes.prefill = Activations::bytes(config, prompt_tokens, Keep::kKeysValues, stored);
  bytes.cache = KeyValueCache::bytes(config, prompts, longest, stored) +
                KeyValueCache::bytes(config, rows, max_new_tokens, stored);
  Decoder none;
  none.for_each_row_buffer(config, [&](const auto& buffer, std::int64_t width) {
    bytes.rows += rows * width * kernels::size_in(buffer, stored);
  });
  return bytes;
}

std::span<const float> Decoder::prefill(const kernels::Stream& on, const Weights& weights,
                                        const PackedBatch& prompts, const DecodeRows& rows,
                                        std::int64_t max_new_tokens) {
  const ModelConfig& config = transformer_->config();
  const std::int64_t n = rows.size(), C = config.hidden_size;
  on_ = &on;
  weights_ = &weights;
  recorded_.clear();
  pieces_.emplace(on, *transformer_, weights);
  std::int32_t longest = 0;
  for (const kernels::Segment& segment : prompts.segments) longest = std::max(longest, segment.length);
  const kernels::Precision stored = kernels::stored_on(on.device(), weights.precision());
  prompts_.reserve(on, config, static_cast<std::int64_t>(prompts.segments.size()), longest, stored);
  responses_.reserve(on, config, n, max_new_tokens, stored);
  for_each_row_buffer(config, [&](auto& buffer, std::int64_t width) {
    kernels::reserve(on, static_cast<std::size_t>(n * width), stored, buffer);
  });
  constexpr std::size_t kColumns = sizeof(Columns) / sizeof(const std::int32_t*);
  if (on.device() == kernels::Device::kCuda) columns_.reserve(on, kColumns * static_cast<std::size_t>(n));

  transformer_->forward(on, weights, prompts, Keep::kKeysValues, activations_);
  std::vector<std::int32_t> slot;
  for (std::size_t i = 0; i < prompts.segments.size(); ++i) {
    slot.insert(slot.end(), static_cast<std::size_t>(prompts.segments[i].length),
                static_cast<std::int32_t>(i));
  }
  const kernels::Mirror<std::int32_t> slots(on, slot), positions(on, prompts.positions);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    kernels::cache_store(on, transformer_->attention_shape(i), prompts.size(), activations_.qkv(i),
                         slots.data(), positions.data(), prompts_.layer(i));
  }
  std::vector<std::int32_t> last;  // token of each row's prompt
  for (const std::int32_t index : rows.prompt) {
    const kernels::Segment& prompt = prompts.segments[static_cast<std::size_t>(index)];
    last.push_back(prompt.begin + prompt.length - 1);
  }
  kernels::embedding_forward(on, n, C, kernels::Mirror<std::int32_t>(on, last).data(), activations_.hidden(),
                             hidden_.data());
  return {hidden_.data(), static_cast<std::size_t>(n * C)};
}

Decoder::Columns Decoder::columns_of(const DecodeRows& rows) {
  if (on_->device() == kernels::Device::kCpu)
    return {rows.position.data(), rows.prompt.data(),       rows.prompt_length.data(),
            rows.slot.data(),     rows.own_position.data(), rows.own_length.data()};
  std::vector<std::int32_t> all;  // one copy in the place of six
  for (const auto* column :
       {&rows.position, &rows.prompt, &rows.prompt_length, &rows.slot, &rows.own_position, &rows.own_length})
    all.insert(all.end(), column->begin(), column->end());
  kernels::upload(*on_, std::span<const std::int32_t>(all), columns_.data());
  const std::int64_t n = rows.size();
  const std::int32_t* first = columns_.data();
  return {first, first + n, first + 2 * n, first + 3 * n, first + 4 * n, first + 5 * n};
}

void Decoder::run_layers(std::int64_t n, const Columns& columns) {
  const kernels::Stream& on = *on_;
  const Pieces& pieces = *pieces_;
  const ModelConfig& config = transformer_->config();
  const ParameterLayout& layout = transformer_->layout();
  const auto normalise = [&](const float* branch, const NormOffsets& norm, kernels::Values out) {
    pieces.normalise(n, norm, residual_.data(), branch, out, inverse_rms_.data());
  };
  const BeforeNorm raw_qkv{raw_qkv_.values(), qk_inverse_rms_.data()};
  const BeforeNorm raw_branch{raw_branch_.data(), inverse_rms_.data()};

  for (std::int64_t i = 0; i < config.layers; ++i) {
    weights_->hold(i, i + 1);
    const LayerOffsets& at = layout.layer(i);
    const kernels::AttentionShape shape = transformer_->attention_shape(i);
    const kernels::CacheView responses = responses_.layer(i);
    normalise(i == 0 ? nullptr : branch_.data(), at.input_norm, normed_.values());
    pieces.queries_keys_values(n, i, columns.position, normed_.values(), raw_qkv, qkv_.values());
    kernels::cache_store(on, shape, n, qkv_.values(), columns.slot, columns.own_position, responses);
    kernels::decode_attention(on, shape, n, qkv_.values(), prompts_.layer(i), columns.prompt,
                              columns.prompt_length, responses, columns.slot, columns.own_length,
                              attended_.values());
    pieces.attention_out(n, i, attended_.values(), raw_branch, branch_.data());
    normalise(branch_.data(), at.feed_forward_norm, normed_.values());
    pieces.feed_forward_in(n, i, normed_.values(), gate_up_.values(), gated_.values());
    pieces.feed_forward_out(n, i, gated_.values(), raw_branch, branch_.data());
  }
  weights_->hold(config.layers);
  normalise(branch_.data(), layout.final_norm(), hidden_.data());
}

std::span<const float> Decoder::step(const DecodeRows& rows) {
  const std::int64_t n = rows.size();
  const Columns columns = columns_of(rows);
  pieces_->embed(rows.token, rows.position, residual_.data());
  if (on_->device() == kernels::Device::kCpu || weights_->is_gathered()) {
    run_layers(n, columns);
  } else if (const auto [known, is_first] = recorded_.try_emplace(n); is_first) {
    run_layers(n, columns);  // what comes into being at the first use, does so before it is recorded
  } else {
    if (known->second.empty()) known->second = kernels::Recording(*on_, [&] { run_layers(n, columns); });
    known->second.replay(*on_);
  }
  return {hidden_.data(), static_cast<std::size_t>(n * transformer_->config().hidden_size)};
}

}  // namespace infalign::model
