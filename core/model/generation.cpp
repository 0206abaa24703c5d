// The loop that draws tokens: hidden states to logits to tokens, responses that end, rows that leave. Which
// rows there are at a step, and in which order, follows from the arguments alone.
#include "core/model/generation.h"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>

#include "kernels/parallel.h"
#include "kernels/sampling/sampling.h"
#include "kernels/softcap/softcap.h"
#include "kernels/trace.h"

namespace infalign::model {
namespace {

/// Logits are made for so many rows at a time that they stay in the cache, yet enough that the head's
/// weights, read once for each such chunk, are not what it waits for.
std::int64_t rows_at_a_time(std::int64_t rows, std::int64_t vocabulary) {
  constexpr std::int64_t kLogits = 1 << 17, kFewest = 64;
  return std::min(rows, std::max(kFewest, kLogits / vocabulary));
}

/// In how many shares prompts are sampled, of which each thread does some. Every step reads the keys and
/// values of prompts and responses so far, so there are to be few enough rows in a share for these to stay
/// near the processor, yet enough for the products. Weights too large for its cache are better read once for
/// all rows, by all threads together.
std::int64_t share_count(const ModelConfig& config, std::int64_t weights, std::span<const Prompt> prompts,
                         std::int64_t samples, std::int64_t max_new_tokens) {
  constexpr std::int64_t kFloats = 1 << 20, kFewestRows = 8;  // 4 MiB
  constexpr std::int64_t kSmallModel = 1 << 21;               // floats that the cache can hold
  if (weights > kSmallModel) return 1;
  std::int64_t positions = 0;
  for (const Prompt& prompt : prompts) positions += std::ssize(prompt.tokens) + samples * max_new_tokens;
  const std::int64_t floats = positions * 2 * config.layers * config.kv_heads * config.head_dim;
  const std::int64_t rows = std::ssize(prompts) * samples;
  const std::int64_t needed = std::max((floats + kFloats - 1) / kFloats, kernels::thread_count());
  return std::clamp(std::min(needed, rows / kFewestRows), std::int64_t{1}, std::ssize(prompts));
}

/// How many rows a step is to have of which `live` go on, of `most` at the beginning: on a CPU those; on a
/// GPU one of eight numbers, so that few kinds of step are to be recorded.
std::int64_t rows_of_step(kernels::Device device, std::int64_t live, std::int64_t most) {
  if (device == kernels::Device::kCpu) return live;
  const std::int64_t eighth = (most + 7) / 8;
  return std::min((live + eighth - 1) / eighth * eighth, most);
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

void Generator::draw(Worker& worker, const kernels::Stream& on, const Weights& weights,
                     std::span<const float> hidden, const SamplingSettings& settings) {
  const Transformer& transformer = worker.decoder.transformer();
  const std::int64_t C = transformer.config().hidden_size, V = transformer.config().vocab_size;
  const auto n = static_cast<std::int64_t>(worker.uniform.size());
  const std::int64_t chunk = rows_at_a_time(n, V);
  worker.logits.reserve(on, static_cast<std::size_t>(chunk * V));
  worker.token.resize(worker.uniform.size());
  worker.log_probability.resize(worker.uniform.size());
  worker.log_probability_at_1.resize(worker.uniform.size());
  weights.hold(transformer.config().layers);
  const kernels::Mirror<double> uniform(on, worker.uniform);
  kernels::Returned<std::int32_t> token(on, worker.token);
  kernels::Returned<float> log_probability(on, worker.log_probability),
      log_probability_at_1(on, worker.log_probability_at_1);
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const std::int64_t rows = std::min(chunk, n - begin);
    weights.head().forward(on, rows, hidden.data() + begin * C, worker.logits.data());
    const float softcap = transformer.config().logit_softcap;
    if (softcap > 0) kernels::softcap_forward(on, rows * V, softcap, worker.logits.data());
    const kernels::SamplingShape shape{.rows = rows,
                                       .vocabulary = V,
                                       .temperature = settings.temperature,
                                       .top_p = settings.top_p,
                                       .greedy = settings.greedy};
    kernels::sample_tokens(on, shape, worker.logits.data(), uniform.data() + begin, token.data() + begin,
                           log_probability.data() + begin, log_probability_at_1.data() + begin);
  }
  token.fetch();
  log_probability.fetch();
  log_probability_at_1.fetch();
}

std::vector<std::vector<Response>> Generator::generate(const kernels::Stream& on, const Weights& weights,
                                                       std::span<const Prompt> prompts, std::int64_t samples,
                                                       const SamplingSettings& settings,
                                                       kernels::RandomKey key, std::uint32_t first_sample) {
  check(transformer_->config(), prompts, samples, settings);
  std::vector<std::vector<Response>> responses(prompts.size());
  if (prompts.empty() || samples == 0) return responses;
  for (std::vector<Response>& of_prompt : responses) of_prompt.resize(static_cast<std::size_t>(samples));
  // A GPU takes all rows at once, and what is gathered serves all.
  const bool together = on.device() == kernels::Device::kCuda || weights.is_gathered();
  const std::int64_t shares = together ? 1
                                       : share_count(transformer_->config(), transformer_->layout().size(),
                                                     prompts, samples, settings.max_new_tokens);
  const auto threads = std::min(shares, kernels::thread_count());
  while (std::ssize(workers_) < threads) workers_.emplace_back(*transformer_);

  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(threads));
  const auto begin_of = [&](std::int64_t share) {
    return static_cast<std::size_t>(std::ssize(prompts) * share / shares);
  };
  const auto work = [&](std::int64_t thread) {
    for (std::int64_t share = shares * thread / threads; share < shares * (thread + 1) / threads; ++share) {
      const std::size_t begin = begin_of(share), count = begin_of(share + 1) - begin;
      generate_together(workers_[static_cast<std::size_t>(thread)], on, weights,
                        prompts.subspan(begin, count), settings, key, first_sample,
                        std::span(responses).subspan(begin, count));
    }
  };
  kernels::parallel_for(threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t thread = begin; thread < end; ++thread) try {
        work(thread);
      } catch (...) {  // must not leave the parallel region
        failures[static_cast<std::size_t>(thread)] = std::current_exception();
      }
  });
  for (const auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return responses;
}

void Generator::generate_together(Worker& worker, const kernels::Stream& on, const Weights& weights,
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

  std::span<const float> hidden = worker.decoder.prefill(on, weights, batch, rows, settings.max_new_tokens);
  std::vector<char> ended(static_cast<std::size_t>(rows.size()), 0);  // by slot
  std::vector<char> kept;
  std::int64_t live = rows.size();
  for (std::int64_t index = 0;; ++index) {
    kernels::pulse();
    const auto n = static_cast<std::size_t>(rows.size());
    const auto sample_of = [&](std::size_t row) {
      return static_cast<std::size_t>(rows.slot[row] % samples);
    };
    const auto prompt_of = [&](std::size_t row) { return static_cast<std::size_t>(rows.prompt[row]); };
    worker.uniform.resize(n);
    for (std::size_t row = 0; row < n; ++row) {
      worker.uniform[row] = kernels::random_uniform(key, prompts[prompt_of(row)].id,
                                                    first_sample + static_cast<std::uint32_t>(sample_of(row)),
                                                    static_cast<std::uint32_t>(index));
    }
    draw(worker, on, weights, hidden, settings);

    for (std::size_t row = 0; row < n; ++row) {
      rows.token[row] = worker.token[row];
      char& has_ended = ended[static_cast<std::size_t>(rows.slot[row])];
      if (has_ended) continue;
      Response& response = responses[prompt_of(row)][sample_of(row)];
      response.tokens.push_back(worker.token[row]);
      response.log_probabilities.push_back(worker.log_probability[row]);
      response.log_probabilities_at_1.push_back(worker.log_probability_at_1[row]);
      response.stopped =
          std::ranges::find(settings.stop_tokens, worker.token[row]) != settings.stop_tokens.end();
      has_ended = response.stopped;
      live -= response.stopped;
    }
    if (index + 1 == settings.max_new_tokens || live == 0) break;
    std::int64_t idle = rows_of_step(on.device(), live, std::ssize(ended)) - live;  // ended, and taken along
    kept.resize(n);
    for (std::size_t row = 0; row < n; ++row)
      kept[row] = !ended[static_cast<std::size_t>(rows.slot[row])] || idle-- > 0;
    rows.compact(kept);
    rows.advance();
    hidden = worker.decoder.step(rows);
  }
}

}  // namespace infalign::model
