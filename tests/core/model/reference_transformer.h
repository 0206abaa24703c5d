// The Llama decoder once more, in float64 and as plainly as its definition: one sequence, one loop for each
// sum, weights looked up by name. It shares no code with what it checks but the map of the parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/model/model_config.h"
#include "core/model/parameters.h"

namespace infalign::model::testing {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;

class ReferenceTransformer {
 public:
  explicit ReferenceTransformer(const ModelConfig& config) : config_(config), layout_(config) {}

  /// Normalised hidden states [T, C] of one sequence.
  Matrix hidden(std::span<const double> parameters, std::span<const std::int32_t> tokens) const {
    const Tensor embedding = find(parameters, "model.embed_tokens.weight");
    Matrix stream;
    for (const std::int32_t token : tokens) {
      const auto row = embedding.row(token);
      stream.emplace_back(row.begin(), row.end());
    }
    for (std::int64_t i = 0; i < config_.layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      add(stream, attention(parameters, layer + "self_attn.",
                            normalised(stream, find(parameters, layer + "input_layernorm.weight"))));
      add(stream,
          feed_forward(parameters, layer + "mlp.",
                       normalised(stream, find(parameters, layer + "post_attention_layernorm.weight"))));
    }
    return normalised(stream, find(parameters, "model.norm.weight"));
  }

  /// log p of every token of the vocabulary after each token of the sequence, [T, V].
  Matrix log_probabilities(std::span<const double> parameters, std::span<const std::int32_t> tokens,
                           double temperature) const {
    Matrix logits =
        times(hidden(parameters, tokens),
              find(parameters, config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"));
    for (Vector& row : logits) {
      for (double& logit : row) logit /= temperature;
      const double largest = *std::max_element(row.begin(), row.end());
      double sum = 0;
      for (const double logit : row) sum += std::exp(logit - largest);
      for (double& logit : row) logit -= largest + std::log(sum);
    }
    return logits;
  }

  /// The reward of a sequence: the score of its last token.
  double reward(std::span<const double> parameters, std::span<const std::int32_t> tokens) const {
    return times(hidden(parameters, tokens), find(parameters, "score.weight")).back()[0];
  }

 private:
  struct Tensor {
    std::span<const double> values;
    std::size_t width;
    std::span<const double> row(std::int64_t i) const {
      return values.subspan(static_cast<std::size_t>(i) * width, width);
    }
    std::int64_t rows() const { return static_cast<std::int64_t>(values.size() / width); }
  };

  Tensor find(std::span<const double> parameters, const std::string& name) const {
    for (const ParameterView& view : layout_.views()) {
      if (view.name != name) continue;
      return {parameters.subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size)),
              static_cast<std::size_t>(view.shape.back())};
    }
    throw std::runtime_error("no parameter " + name);
  }

  static void add(Matrix& to, const Matrix& what) {
    for (std::size_t t = 0; t < to.size(); ++t) {
      for (std::size_t c = 0; c < to[t].size(); ++c) to[t][c] += what[t][c];
    }
  }

  static double dot(std::span<const double> a, std::span<const double> b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  static Matrix times(const Matrix& in, const Tensor& weight) {
    Matrix out(in.size());
    for (std::size_t t = 0; t < in.size(); ++t) {
      for (std::int64_t o = 0; o < weight.rows(); ++o) out[t].push_back(dot(in[t], weight.row(o)));
    }
    return out;
  }

  Matrix normalised(Matrix rows, const Tensor& weight) const {
    for (Vector& row : rows) {
      const double mean_square = dot(row, row) / static_cast<double>(row.size());
      const double scale = 1 / std::sqrt(mean_square + double{config_.rms_norm_epsilon});
      for (std::size_t c = 0; c < row.size(); ++c) row[c] *= scale * weight.values[c];
    }
    return rows;
  }

  /// Head `h` of a row of heads, rotated to its position.
  Vector rotated(const Vector& row, std::int64_t h, std::size_t position) const {
    const auto half = static_cast<std::size_t>(config_.head_dim / 2);
    const std::size_t begin = static_cast<std::size_t>(h) * 2 * half;
    Vector out(2 * half);
    for (std::size_t d = 0; d < half; ++d) {
      const double exponent = static_cast<double>(d) / static_cast<double>(half);
      const double angle = static_cast<double>(position) / std::pow(double{config_.rope_theta}, exponent);
      const double a = row[begin + d], b = row[begin + half + d];
      out[d] = a * std::cos(angle) - b * std::sin(angle);
      out[half + d] = b * std::cos(angle) + a * std::sin(angle);
    }
    return out;
  }

  Matrix attention(std::span<const double> parameters, const std::string& prefix, const Matrix& in) const {
    const Matrix q = times(in, find(parameters, prefix + "q_proj.weight"));
    const Matrix k = times(in, find(parameters, prefix + "k_proj.weight"));
    const Matrix v = times(in, find(parameters, prefix + "v_proj.weight"));
    Matrix out(in.size());
    for (std::size_t t = 0; t < in.size(); ++t) {
      for (std::int64_t h = 0; h < config_.heads; ++h) {
        const std::int64_t kv_head = h / (config_.heads / config_.kv_heads);
        const Vector query = rotated(q[t], h, t);
        Vector weight;
        double total = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          const double score =
              dot(query, rotated(k[s], kv_head, s)) / std::sqrt(static_cast<double>(config_.head_dim));
          weight.push_back(std::exp(score));
          total += weight.back();
        }
        for (std::int64_t d = 0; d < config_.head_dim; ++d) {
          double sum = 0;
          for (std::size_t s = 0; s <= t; ++s) {
            sum += weight[s] / total * v[s][static_cast<std::size_t>(kv_head * config_.head_dim + d)];
          }
          out[t].push_back(sum);
        }
      }
    }
    return times(out, find(parameters, prefix + "o_proj.weight"));
  }

  Matrix feed_forward(std::span<const double> parameters, const std::string& prefix, const Matrix& in) const {
    Matrix gate = times(in, find(parameters, prefix + "gate_proj.weight"));
    const Matrix up = times(in, find(parameters, prefix + "up_proj.weight"));
    for (std::size_t t = 0; t < gate.size(); ++t) {
      for (std::size_t f = 0; f < gate[t].size(); ++f) gate[t][f] *= up[t][f] / (1 + std::exp(-gate[t][f]));
    }
    return times(gate, find(parameters, prefix + "down_proj.weight"));
  }

  ModelConfig config_;
  ParameterLayout layout_;
};

}  // namespace infalign::model::testing
