// The loop that draws tokens: hidden states to logits to tokens, responses that end, rows that leave. Which
// rows there are at a step, and in which order, follows from the arguments alone.
#include "core/model/generation.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/sampling/sampling.h"
#include "kernels/softcap/softcap.h"

namespace infalign::model {
namespace {

/// Logits are made for so many rows at a time that they stay in the cache, yet enough that the head's
/// weights, read once for each such chunk, are not what it waits for.
std::int64_t rows_at_a_time(std::int64_t rows, std::int64_t vocabulary) {
  constexpr std::int64_t kLogits = 1 << 17, kFewest = 64;
  return std::min(rows, std::max(kFewest, kLogits / vocabulary));
}

/// How many prompts are sampled together. Every step reads the keys and values of all responses so far, so
/// there are to be few enough for these to stay in the processor's cache, yet enough rows for the products;
/// the shares are as equal as can be. Weights too large for the cache are better read once for all.
std::int64_t prompts_at_a_time(const ModelConfig& config, std::int64_t weights, std::int64_t prompts,
                               std::int64_t samples, std::int64_t max_new_tokens) {
  constexpr std::int64_t kFloats = 1 << 21, kFewestRows = 16;  // 8 MiB, a share of the third-level cache
  if (weights > kFloats) return prompts;
  const std::int64_t row = 2 * config.layers * config.kv_heads * config.head_dim * max_new_tokens;
  const std::int64_t rows = std::max(kFewestRows, kFloats / row);
  const std::int64_t shares = std::clamp((prompts * samples + rows - 1) / rows, std::int64_t{1}, prompts);
  return (prompts + shares - 1) / shares;
}

void check(const ModelConfig& config, std::span<const Prompt> prompts, std::int64_t samples,
           const SamplingSettings& settings) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw std::invalid_argument("Generator: " + what);
  };
  require(!config.score_head, "a reward model has no language-model head to sample from");
  require(samples >= 0, "the number of samples is negative");
  require(settings.greedy || settings.temperature > 0, "temperature has to be positive");
  require(settings.top_p > 0 && settings.top_p <= 1, "top_p has to be in (0, 1]");
  require(settings.max_new_tokens > 0, "max_new_tokens has to be positive");
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto length = static_cast<std::int64_t>(prompts[i].tokens.size());
    const std::string which = "prompt " + std::to_string(i);
    require(length > 0, which + " is empty");
    require(length + settings.max_new_tokens <= config.max_positions,
            which + " has " + std::to_string(length) + " tokens, with max_new_tokens " +
                std::to_string(settings.max_new_tokens) + " more than the model's " +
                std::to_string(config.max_positions) + " positions");
  }
}

}  // namespace

std::int64_t Generator::logits_bytes(const ModelConfig& config, std::int64_t rows) {
  return rows_at_a_time(rows, config.vocab_size) * config.vocab_size *
         static_cast<std::int64_t>(sizeof(float));
}

void Generator::draw(const kernels::Stream& on, const Weights& weights, std::span<const float> hidden,
                     const SamplingSettings& settings) {
  const Transformer& transformer = decoder_.transformer();
  const std::int64_t C = transformer.config().hidden_size, V = transformer.config().vocab_size;
  const auto n = static_cast<std::int64_t>(uniform_.size());
  const std::int64_t chunk = rows_at_a_time(n, V);
  logits_.reserve(static_cast<std::size_t>(chunk * V));
  token_.resize(uniform_.size());
  log_probability_.resize(uniform_.size());
  log_probability_at_1_.resize(uniform_.size());
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const std::int64_t rows = std::min(chunk, n - begin);
    weights.head().forward(on, rows, hidden.data() + begin * C, logits_.data());
    const float softcap = transformer.config().logit_softcap;
    if (softcap > 0) kernels::softcap_forward(on, rows * V, softcap, logits_.data());
    const kernels::SamplingShape shape{.rows = rows,
                                       .vocabulary = V,
                                       .temperature = settings.temperature,
                                       .top_p = settings.top_p,
                                       .greedy = settings.greedy};
    kernels::sample_tokens(on, shape, logits_.data(), uniform_.data() + begin, token_.data() + begin,
                           log_probability_.data() + begin, log_probability_at_1_.data() + begin);
  }
}

std::vector<std::vector<Response>> Generator::generate(const kernels::Stream& on, const Weights& weights,
                                                       std::span<const Prompt> prompts, std::int64_t samples,
                                                       const SamplingSettings& settings,
                                                       kernels::RandomKey key, std::uint32_t first_sample) {
  const ModelConfig& config = decoder_.transformer().config();
  check(config, prompts, samples, settings);
  std::vector<std::vector<Response>> responses(prompts.size());
  if (prompts.empty() || samples == 0) return responses;
  for (std::vector<Response>& of_prompt : responses) of_prompt.resize(static_cast<std::size_t>(samples));
  const auto share = static_cast<std::size_t>(prompts_at_a_time(
      config, decoder_.transformer().layout().size(), std::ssize(prompts), samples, settings.max_new_tokens));
  for (std::size_t begin = 0; begin < prompts.size(); begin += share) {
    const std::size_t count = std::min(share, prompts.size() - begin);
    generate_together(on, weights, prompts.subspan(begin, count), settings, key, first_sample,
                      std::span(responses).subspan(begin, count));
  }
  return responses;
}

void Generator::generate_together(const kernels::Stream& on, const Weights& weights,
                                  std::span<const Prompt> prompts, const SamplingSettings& settings,
                                  kernels::RandomKey key, std::uint32_t first_sample,
                                  std::span<std::vector<Response>> responses) {
  const auto samples = std::ssize(responses.front());
  PackedBatch batch;
  DecodeRows rows;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    batch.add(prompts[i].tokens);
    for (std::int64_t s = 0; s < samples; ++s) {
      rows.add(static_cast<std::int32_t>(i), static_cast<std::int32_t>(prompts[i].tokens.size()));
    }
  }

  std::span<const float> hidden = decoder_.prefill(on, weights, batch, rows, settings.max_new_tokens);
  std::vector<char> alive;
  for (std::int64_t index = 0;; ++index) {
    const auto n = static_cast<std::size_t>(rows.size());
    const auto sample_of = [&](std::size_t row) {
      return static_cast<std::size_t>(rows.slot[row] % samples);
    };
    const auto prompt_of = [&](std::size_t row) { return static_cast<std::size_t>(rows.prompt[row]); };
    uniform_.resize(n);
    for (std::size_t row = 0; row < n; ++row) {
      uniform_[row] = kernels::random_uniform(key, prompts[prompt_of(row)].id,
                                              first_sample + static_cast<std::uint32_t>(sample_of(row)),
                                              static_cast<std::uint32_t>(index));
    }
    draw(on, weights, hidden, settings);

    alive.assign(n, 1);
    for (std::size_t row = 0; row < n; ++row) {
      Response& response = responses[prompt_of(row)][sample_of(row)];
      response.tokens.push_back(token_[row]);
      response.log_probabilities.push_back(log_probability_[row]);
      response.log_probabilities_at_1.push_back(log_probability_at_1_[row]);
      response.stopped = std::ranges::find(settings.stop_tokens, token_[row]) != settings.stop_tokens.end();
      alive[row] = !response.stopped;
      rows.token[row] = token_[row];
    }
    if (index + 1 == settings.max_new_tokens) break;
    rows.compact(alive);
    if (rows.size() == 0) break;
    rows.advance();
    hidden = decoder_.step(on, weights, rows);
  }
}

}  // namespace infalign::model
