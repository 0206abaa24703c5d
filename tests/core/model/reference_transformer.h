// The decoder once more, in float64 and as plainly as its definition: one sequence, one loop for each sum,
// weights looked up by name. It shares no code with what it checks but the description, the names and the map
// of the parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/model/families.h"
#include "core/model/model_config.h"
#include "core/model/parameters.h"

namespace infalign::model::testing {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;

class ReferenceTransformer {
 public:
  explicit ReferenceTransformer(const ModelConfig& config) : config_(config), layout_(config) {
    for (const ParameterView& view : layout_.views()) by_name_[view.name] = &view;
  }
  ReferenceTransformer(const ReferenceTransformer&) = delete;
  ReferenceTransformer& operator=(const ReferenceTransformer&) = delete;

  /// Normalised hidden states [T, C] of one sequence.
  Matrix hidden(std::span<const double> parameters, std::span<const std::int32_t> tokens) const {
    const TensorNames& names = traits_of(config_.family).names;
    const Tensor embedding = find(parameters, std::string(names.embedding) + ".weight");
    Matrix stream;
    for (const std::int32_t token : tokens) {
      const auto row = embedding.row(token);
      stream.emplace_back(row.begin(), row.end());
      for (double& value : stream.back()) value *= double{config_.embedding_scale};
      if (!config_.learned_positions) continue;
      const auto position = find(parameters, std::string(names.positions) + ".weight")
                                .row(static_cast<std::int64_t>(stream.size()) - 1);
      for (std::size_t c = 0; c < position.size(); ++c) stream.back()[c] += position[c];
    }
    for (std::int64_t i = 0; i < config_.layers; ++i) {
      const std::string layer = std::string(names.layers) + std::to_string(i) + ".";
      const auto norm = [&](const Matrix& rows, std::string_view name) {
        return normalised(parameters, rows, layer + std::string(name));
      };
      Matrix branch = attention(parameters, i, layer, norm(stream, names.input_norm));
      add(stream, config_.norms_after_branches ? norm(branch, names.attention_after_norm) : branch);
      branch = feed_forward(parameters, layer, norm(stream, names.feed_forward_norm));
      add(stream, config_.norms_after_branches ? norm(branch, names.feed_forward_after_norm) : branch);
    }
    return normalised(parameters, stream, std::string(names.final_norm));
  }

  /// [T, V], capped where the model caps them.
  Matrix logits(std::span<const double> parameters, std::span<const std::int32_t> tokens) const {
    const std::string embedding = std::string(traits_of(config_.family).names.embedding) + ".weight";
    Matrix rows = times(hidden(parameters, tokens),
                        find(parameters, config_.tie_word_embeddings ? embedding : "lm_head.weight"));
    for (Vector& row : rows)
      for (double& logit : row) logit = capped(logit, config_.logit_softcap);
    return rows;
  }

  /// log p of every token of the vocabulary after each token of the sequence, [T, V].
  Matrix log_probabilities(std::span<const double> parameters, std::span<const std::int32_t> tokens,
                           double temperature) const {
    Matrix rows = logits(parameters, tokens);
    for (Vector& row : rows) {
      for (double& logit : row) logit /= temperature;
      const double largest = *std::max_element(row.begin(), row.end());
      double sum = 0;
      for (const double logit : row) sum += std::exp(logit - largest);
      for (double& logit : row) logit -= largest + std::log(sum);
    }
    return rows;
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
    if (!has(name)) throw std::runtime_error("no parameter " + name);
    const ParameterView& view = *by_name_.find(name)->second;
    return {parameters.subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size)),
            static_cast<std::size_t>(view.shape.back())};
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
      out[t].reserve(static_cast<std::size_t>(weight.rows()));
      for (std::int64_t o = 0; o < weight.rows(); ++o) out[t].push_back(dot(in[t], weight.row(o)));
    }
    return out;
  }

  static double capped(double value, float cap) {
    return cap > 0 ? double{cap} * std::tanh(value / double{cap}) : value;
  }

  bool has(const std::string& name) const { return by_name_.contains(name); }

  /// The product with `name`.weight, and its bias if there is one.
  Matrix linear(std::span<const double> parameters, const Matrix& in, const std::string& name) const {
    Matrix out = times(in, find(parameters, name + ".weight"));
    if (!has(name + ".bias")) return out;
    const Tensor bias = find(parameters, name + ".bias");
    for (Vector& row : out)
      for (std::size_t c = 0; c < row.size(); ++c) row[c] += bias.values[c];
    return out;
  }

  void scale_to_rms(std::span<double> x, std::span<const double> weight) const {
    const double mean_square = dot(x, x) / static_cast<double>(x.size());
    const double scale = 1 / std::sqrt(mean_square + double{config_.norm_epsilon});
    for (std::size_t c = 0; c < x.size(); ++c) x[c] *= scale * weight[c];
  }

  Matrix normalised(std::span<const double> parameters, Matrix rows, const std::string& name) const {
    const Tensor tensor = find(parameters, name + ".weight");
    Vector weight(tensor.values.begin(), tensor.values.end());
    if (config_.norm == Norm::kRmsPlusOne)
      for (double& w : weight) w += 1;
    for (Vector& row : rows) {
      if (config_.norm != Norm::kLayer) {
        scale_to_rms(row, weight);
        continue;
      }
      const Tensor bias = find(parameters, name + ".bias");
      const auto width = static_cast<double>(row.size());
      double mean = 0, variance = 0;
      for (const double x : row) mean += x / width;
      for (const double x : row) variance += (x - mean) * (x - mean) / width;
      for (std::size_t c = 0; c < row.size(); ++c)
        row[c] =
            (row[c] - mean) / std::sqrt(variance + double{config_.norm_epsilon}) * weight[c] + bias.values[c];
    }
    return rows;
  }

  /// theta^(-2 d / rotated), scaled, in float64 from its definition.
  double frequency(std::size_t d, std::size_t rotated) const {
    constexpr double kTurn = 2 * std::numbers::pi;
    const RopeScaling& scaling = config_.rope_scaling;
    const double plain =
        std::pow(double{config_.rope_theta}, -2 * static_cast<double>(d) / static_cast<double>(rotated));
    if (scaling.kind == RopeScaling::Kind::kLinear) return plain / double{scaling.factor};
    if (scaling.kind != RopeScaling::Kind::kLlama3) return plain;
    // How many turns it makes in the original length, from few (all divided) to many (none).
    const double turns = double{scaling.original_positions} * plain / kTurn;
    const double low = scaling.low_frequency_factor, high = scaling.high_frequency_factor;
    const double share = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    return share * plain + (1 - share) * plain / double{scaling.factor};
  }

  /// A head's vector, turned to its position.
  Vector rotated(Vector x, std::int64_t layer, std::size_t position) const {
    if (config_.learned_positions || !config_.layer(layer).rotary) return x;
    const auto width =
        static_cast<std::size_t>(config_.rotary_dim == 0 ? config_.head_dim : config_.rotary_dim);
    for (std::size_t d = 0; d < width / 2; ++d) {
      const double angle = static_cast<double>(position) * frequency(d, width);
      const double a = x[d], b = x[width / 2 + d];
      x[d] = a * std::cos(angle) - b * std::sin(angle);
      x[width / 2 + d] = b * std::cos(angle) + a * std::sin(angle);
    }
    return x;
  }

  /// Rows of q, k and v side by side, whether they are one tensor or three.
  Matrix qkv(std::span<const double> parameters, const std::string& layer, const Matrix& in) const {
    const TensorNames& names = traits_of(config_.family).names;
    if (!names.fused_qkv.empty()) return linear(parameters, in, layer + std::string(names.fused_qkv));
    Matrix rows(in.size());
    for (const std::string_view name : {names.q, names.k, names.v}) {
      const Matrix part = linear(parameters, in, layer + std::string(name));
      for (std::size_t t = 0; t < rows.size(); ++t)
        rows[t].insert(rows[t].end(), part[t].begin(), part[t].end());
    }
    return rows;
  }

  /// Head `h` of a row of q-k-v, normalised if heads are.
  Vector head_of(std::span<const double> parameters, const std::string& layer, const Vector& row,
                 std::int64_t h) const {
    const TensorNames& names = traits_of(config_.family).names;
    const auto begin = row.begin() + h * config_.head_dim;
    Vector x(begin, begin + config_.head_dim);
    if (config_.qk_norms && h < config_.heads + config_.kv_heads) {
      const auto name = std::string(h < config_.heads ? names.q_norm : names.k_norm);
      scale_to_rms(x, find(parameters, layer + name + ".weight").values);
    }
    return x;
  }

  Matrix attention(std::span<const double> parameters, std::int64_t i, const std::string& layer,
                   const Matrix& in) const {
    const Matrix rows = qkv(parameters, layer, in);
    const std::int64_t group = config_.heads / config_.kv_heads;
    const double scale = config_.attention_scale != 0 ? double{config_.attention_scale}
                                                      : 1 / std::sqrt(static_cast<double>(config_.head_dim));
    const auto window = static_cast<std::size_t>(config_.layer(i).window);
    Matrix out(in.size());
    for (std::int64_t h = 0; h < config_.heads; ++h) {
      const std::int64_t key = config_.heads + h / group, value = key + config_.kv_heads;
      Matrix keys, values;
      for (std::size_t s = 0; s < in.size(); ++s) {
        keys.push_back(rotated(head_of(parameters, layer, rows[s], key), i, s));
        values.push_back(head_of(parameters, layer, rows[s], value));
      }
      for (std::size_t t = 0; t < in.size(); ++t) {
        const std::size_t first = window > 0 && t + 1 > window ? t + 1 - window : 0;
        const Vector query = rotated(head_of(parameters, layer, rows[t], h), i, t);
        Vector mixed(static_cast<std::size_t>(config_.head_dim));
        double total = 0;
        for (std::size_t s = first; s <= t; ++s) {
          const double weight = std::exp(capped(dot(query, keys[s]) * scale, config_.attention_softcap));
          for (std::size_t d = 0; d < mixed.size(); ++d) mixed[d] += weight * values[s][d];
          total += weight;
        }
        for (const double x : mixed) out[t].push_back(x / total);
      }
    }
    return linear(parameters, out, layer + std::string(traits_of(config_.family).names.attention_out));
  }

  double activated(double x) const {
    if (config_.activation == Activation::kSilu) return x / (1 + std::exp(-x));
    if (config_.activation == Activation::kGeluErf) return x / 2 * (1 + std::erf(x / std::numbers::sqrt2));
    return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
  }

  Matrix feed_forward(std::span<const double> parameters, const std::string& layer, const Matrix& in) const {
    const TensorNames& names = traits_of(config_.family).names;
    const auto F = static_cast<std::size_t>(config_.intermediate_size);
    Matrix inner;
    if (!config_.gated) {
      inner = linear(parameters, in, layer + std::string(names.up));
    } else if (names.fused_gate_up.empty()) {
      inner = linear(parameters, in, layer + std::string(names.gate));
      const Matrix up = linear(parameters, in, layer + std::string(names.up));
      for (std::size_t t = 0; t < inner.size(); ++t)
        inner[t].insert(inner[t].end(), up[t].begin(), up[t].end());
    } else {
      inner = linear(parameters, in, layer + std::string(names.fused_gate_up));
    }
    for (Vector& row : inner) {
      for (std::size_t f = 0; f < F; ++f) row[f] = activated(row[f]) * (config_.gated ? row[F + f] : 1);
      row.resize(F);
    }
    return linear(parameters, inner, layer + std::string(names.down));
  }

  ModelConfig config_;
  ParameterLayout layout_;
  std::unordered_map<std::string, const ParameterView*> by_name_;
};

}  // namespace infalign::model::testing
