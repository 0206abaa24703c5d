#include "kernels/cuda/registry.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "kernels/adamw/adamw.h"
#include "kernels/bias/bias.h"
#include "kernels/calibration/calibration.h"
#include "kernels/cuda/attention_cases.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gelu/gelu.h"
#include "kernels/head/rows.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/linear/linear.h"
#include "kernels/low_rank/low_rank.h"
#include "kernels/matmul/matmul.h"
#include "kernels/qk_norm/qk_norm.h"
#include "kernels/reproducible_sum/reproducible_sum.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/sampling/sampling.h"
#include "kernels/score/score.h"
#include "kernels/softcap/softcap.h"
#include "kernels/support.h"
#include "kernels/swiglu/swiglu.h"

namespace infalign::kernels::testing {
namespace {

using Ints = std::vector<std::int32_t>;

/// n integers in [0, below).
Ints integers(std::int64_t n, std::int32_t below, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<std::int32_t> distribution(0, below - 1);
  Ints values(static_cast<std::size_t>(n));
  for (std::int32_t& value : values) value = distribution(engine);
  return values;
}

Doubles uniforms(std::int64_t n, std::uint32_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> distribution(0, 1);
  Doubles values(static_cast<std::size_t>(n));
  for (double& value : values) value = distribution(engine);
  return values;
}

Floats unset(std::int64_t n) { return Floats(static_cast<std::size_t>(n), 77.0f); }

/// The name and tolerance of an operation whose activations are stored so. What is rounded may be off by 2^-8
/// of its size.
Operation operation_in(Precision stored, const std::string& name, double tolerance,
                       std::vector<OperationCase> cases) {
  if (stored == Precision::kFloat32) return {name, tolerance, std::move(cases)};
  return {name + " in bfloat16", 4e-3, std::move(cases)};
}

/// On all sides of a warp, a block and what a block does at a time.
const std::vector<std::int64_t>& lengths() {
  static const std::vector<std::int64_t> all{1,   2,   3,   5,   7,    11,   13,   31,   32,   33,  63,
                                             64,  65,  97,  127, 128,  129,  251,  255,  256,  257, 509,
                                             512, 513, 769, 997, 1023, 1024, 1025, 2047, 2049, 4099};
  return all;
}

struct Size {
  std::int64_t rows, columns;
};
/// The same for rows of a matrix, whose columns' sums are taken over blocks of 64 rows.
const std::vector<Size>& sizes() {
  static const std::vector<Size> all{{1, 1},   {1, 2},    {2, 1},    {3, 3},   {1, 31},   {1, 32},  {1, 33},
                                     {5, 7},   {7, 5},    {17, 13},  {31, 31}, {32, 32},  {33, 33}, {63, 3},
                                     {64, 5},  {65, 7},   {127, 2},  {128, 1}, {129, 11}, {200, 6}, {3, 63},
                                     {2, 64},  {3, 65},   {2, 127},  {5, 128}, {1, 129},  {3, 255}, {2, 256},
                                     {1, 257}, {1, 1021}, {2, 1024}, {1, 1031}};
  return all;
}

std::string label(const Size& size) { return std::to_string(size.rows) + "x" + std::to_string(size.columns); }

template <class Run>
std::vector<OperationCase> for_lengths(Run run) {
  std::vector<OperationCase> cases;
  for (const std::int64_t n : lengths()) cases.push_back({std::to_string(n), [=](Trial& t) { run(t, n); }});
  return cases;
}

template <class Run>
std::vector<OperationCase> for_sizes(Run run) {
  std::vector<OperationCase> cases;
  for (const Size& size : sizes())
    cases.push_back({label(size), [=](Trial& t) { run(t, size.rows, size.columns); }});
  return cases;
}

Operation adamw_row() {
  return {"adamw", 1e-6, for_lengths([](Trial& t, std::int64_t n) {
            const AdamWStep hyper{
                .learning_rate = 1e-2f, .weight_decay = 0.1f, .gradient_scale = 0.7f, .step = 3};
            Floats second = normal(n, 4);
            for (float& value : second) value *= value;
            adamw(t.on, hyper, n, t.in(normal(n, 1)), t.out("parameter", normal(n, 2)),
                  t.out("first moment", normal(n, 3)), t.out("second moment", second));
          })};
}

std::vector<Operation> bias_rows(Precision stored) {
  return {
      operation_in(stored, "bias_forward", 1e-7, for_sizes([=](Trial& t, std::int64_t T, std::int64_t n) {
                     bias_forward(t.on, T, n, t.in(normal(n, 1)), t.out("x", stored, normal(T * n, 2)));
                   })),
      operation_in(stored, "bias_backward", 1e-6, for_sizes([=](Trial& t, std::int64_t T, std::int64_t n) {
                     bias_backward(t.on, T, n, t.in(stored, normal(T * n, 1)), t.out("d_bias", normal(n, 2)));
                   }))};
}

std::vector<Operation> embedding_rows() {
  constexpr std::int32_t kTokens = 13;  // few, so that some come often
  return {{"embedding_forward", 0, for_sizes([](Trial& t, std::int64_t T, std::int64_t C) {
             embedding_forward(t.on, T, C, t.in(integers(T, kTokens, 1)), t.in(normal(kTokens * C, 2)),
                               t.out("out", unset(T * C)));
           })},
          {"embedding_add", 1e-7, for_sizes([](Trial& t, std::int64_t T, std::int64_t C) {
             embedding_add(t.on, T, C, t.in(integers(T, kTokens, 1)), t.in(normal(kTokens * C, 2)),
                           t.out("out", normal(T * C, 3)));
           })},
          {"embedding of bfloat16", 1e-7, for_sizes([](Trial& t, std::int64_t T, std::int64_t C) {
             std::vector<Bfloat16> table;
             for (const float value : normal(kTokens * C, 2)) table.push_back(to_bfloat16(value));
             const std::int32_t* tokens = t.in(integers(T, kTokens, 1));
             const Bfloat16* placed = t.in(table);
             embedding_forward(t.on, T, C, tokens, placed, t.out("out", unset(T * C)));
             embedding_add(t.on, T, C, tokens, placed, t.out("added", normal(T * C, 3)));
           })},
          {"embedding_scale", 0, for_lengths([](Trial& t, std::int64_t n) {
             embedding_scale(t.on, n, 1.7f, t.out("x", normal(n, 1)));
           })},
          {"embedding_backward", 0, for_sizes([](Trial& t, std::int64_t T, std::int64_t C) {
             embedding_backward(t.on, T, C, t.in(integers(T, kTokens, 1)), t.in(normal(T * C, 2)),
                                t.out("d_table", normal(kTokens * C, 3)));
           })}};
}

std::vector<Operation> activation_rows(Precision stored) {
  std::vector<Operation> rows;
  for (const char* name : {"gelu_forward", "gelu_backward", "geglu_forward", "geglu_backward"})
    rows.push_back(operation_in(stored, name, 1e-6, {}));
  for (const Gelu kind : {Gelu::kTanh, Gelu::kErf}) {
    const std::string form = kind == Gelu::kTanh ? " tanh" : " erf";
    const auto add = [&](std::size_t row, std::vector<OperationCase> cases) {
      for (OperationCase& test : cases) rows[row].cases.push_back({test.name + form, std::move(test.run)});
    };
    add(0, for_lengths([=](Trial& t, std::int64_t n) {
          gelu_forward(t.on, kind, n, t.in(stored, normal(n, 1, 3)), t.out("out", stored, unset(n)));
        }));
    add(1, for_lengths([=](Trial& t, std::int64_t n) {
          gelu_backward(t.on, kind, n, t.in(stored, normal(n, 1, 3)), t.in(stored, normal(n, 2)),
                        t.out("d_x", stored, unset(n)));
        }));
    add(2, for_sizes([=](Trial& t, std::int64_t T, std::int64_t F) {
          geglu_forward(t.on, kind, T, F, t.in(stored, normal(T * 2 * F, 1, 3)),
                        t.out("out", stored, unset(T * F)));
        }));
    add(3, for_sizes([=](Trial& t, std::int64_t T, std::int64_t F) {
          geglu_backward(t.on, kind, T, F, t.in(stored, normal(T * 2 * F, 1, 3)),
                         t.in(stored, normal(T * F, 2)), t.out("d_gate_up", stored, unset(T * 2 * F)));
        }));
  }
  rows.push_back(operation_in(
      stored, "swiglu_forward", 1e-6, for_sizes([=](Trial& t, std::int64_t T, std::int64_t F) {
        swiglu_forward(t.on, T, F, t.in(stored, normal(T * 2 * F, 1, 3)), t.out("out", stored, unset(T * F)));
      })));
  rows.push_back(operation_in(
      stored, "swiglu_backward", 1e-6, for_sizes([=](Trial& t, std::int64_t T, std::int64_t F) {
        swiglu_backward(t.on, T, F, t.in(stored, normal(T * 2 * F, 1, 3)), t.in(stored, normal(T * F, 2)),
                        t.out("d_gate_up", stored, unset(T * 2 * F)));
      })));
  return rows;
}

std::vector<Operation> softcap_rows() {
  return {{"softcap_forward", 1e-6, for_lengths([](Trial& t, std::int64_t n) {
             softcap_forward(t.on, n, 1.5f, t.out("x", normal(n, 1, 2)));
           })},
          {"softcap_backward", 1e-6, for_lengths([](Trial& t, std::int64_t n) {
             softcap_backward(t.on, n, 3.5f, t.in(normal(n, 1)), t.out("d", normal(n, 2)));
           })}};
}

std::vector<Operation> norm_rows(Precision stored) {
  const auto row = [=](const char* name, double tolerance, auto run) {
    return operation_in(stored, name, tolerance, for_sizes(run));
  };
  return {row("add_rms_norm_forward", 2e-6,
              [=](Trial& t, std::int64_t T, std::int64_t C) {
                const Floats branch = normal(T * C, 2);
                add_rms_norm_forward(t.on, T, C, 1e-5f, t.out("residual", normal(T * C, 1)),
                                     (T + C) % 3 == 0 ? nullptr : t.in(branch), t.in(normal(C, 3)),
                                     t.out("out", stored, unset(T * C)), t.out("inverse_rms", unset(T)));
              }),
          row("rms_norm_backward", 3e-6,
              [=](Trial& t, std::int64_t T, std::int64_t C) {
                rms_norm_backward(t.on, T, C, t.in(stored, normal(T * C, 1)), t.in(normal(T * C, 2)),
                                  t.in(normal(C, 3)), t.in(normal(T, 4)),
                                  t.out("d_residual", normal(T * C, 5)), t.out("d_weight", normal(C, 6)));
              }),
          row("add_layer_norm_forward", 2e-6,
              [=](Trial& t, std::int64_t T, std::int64_t C) {
                const Floats branch = normal(T * C, 2);
                add_layer_norm_forward(t.on, T, C, 1e-1f, t.out("residual", normal(T * C, 1)),
                                       (T + C) % 3 == 0 ? nullptr : t.in(branch), t.in(normal(C, 3)),
                                       t.in(normal(C, 4)), t.out("out", stored, unset(T * C)),
                                       t.out("inverse_deviation", unset(T)));
              }),
          row("layer_norm_backward", 3e-6, [=](Trial& t, std::int64_t T, std::int64_t C) {
            layer_norm_backward(t.on, T, C, t.in(stored, normal(T * C, 1)), t.in(normal(T * C, 2)),
                                t.in(normal(C, 3)), t.in(normal(T, 4)), t.out("d_residual", normal(T * C, 5)),
                                t.out("d_weight", normal(C, 6)), t.out("d_bias", normal(C, 7)));
          })};
}

std::vector<Operation> head_norm_and_rotary_rows(Precision stored) {
  Operation forward = operation_in(stored, "qk_norm_forward", 2e-6, {});
  Operation backward = operation_in(stored, "qk_norm_backward", 3e-6, {});
  Operation rotate = operation_in(stored, "rotary", 1e-6, {});
  for (const std::int64_t head_dim : {1, 2, 5, 16, 64, 80, 96, 128, 256})
    for (const auto& [T, heads, kv_heads] : {std::tuple{1, 1, 1}, {3, 4, 2}, {67, 3, 1}, {2, 9, 3}}) {
      const AttentionShape shape{heads, kv_heads, head_dim, 1.0f};
      const std::int64_t rows = T, width = T * shape.row(), normed = T * (shape.heads + shape.kv_heads);
      const std::string name = std::to_string(T) + " rows, " + std::to_string(heads) + "+" +
                               std::to_string(kv_heads) + " heads of " + std::to_string(head_dim);
      forward.cases.push_back({name, [=](Trial& t) {
                                 qk_norm_forward(t.on, shape, rows, 1e-5f, t.in(stored, normal(width, 1)),
                                                 t.in(normal(head_dim, 2)), t.in(normal(head_dim, 3)),
                                                 t.out("out", stored, unset(width)),
                                                 t.out("inverse_rms", unset(normed)));
                               }});
      backward.cases.push_back({name, [=](Trial& t) {
                                  qk_norm_backward(t.on, shape, rows, t.in(stored, normal(width, 1)),
                                                   t.in(normal(head_dim, 2)), t.in(normal(head_dim, 3)),
                                                   t.in(normal(normed, 4)),
                                                   t.out("d_qkv", stored, normal(width, 5)),
                                                   t.out("d_q_weight", normal(head_dim, 6)),
                                                   t.out("d_k_weight", normal(head_dim, 7)));
                                }});
      if (head_dim % 2 != 0) continue;
      for (const Rotation rotation : {Rotation::kForward, Rotation::kBackward}) {
        const std::int64_t part = T == 3 ? (head_dim / 4) * 2 : 0;  // some rotate a part of each head
        rotate.cases.push_back({name + (rotation == Rotation::kForward ? "" : ", backward"), [=](Trial& t) {
                                  Floats frequency;
                                  const std::int64_t half = (part == 0 ? head_dim : part) / 2;
                                  for (std::int64_t d = 0; d < half; ++d)
                                    frequency.push_back(static_cast<float>(std::pow(
                                        10000.0, -static_cast<double>(d) / static_cast<double>(half))));
                                  rotary(t.on, rotation, rows, shape.heads + shape.kv_heads, head_dim,
                                         t.in(integers(rows, 5000, 1)), t.in(frequency),
                                         t.out("x", stored, normal(width, 2)), shape.row(), part);
                                }});
      }
    }
  return {forward, backward, rotate};
}

std::vector<Operation> product_rows() {
  Operation plain{"matmul", 1e-5, {}}, linear{"linear", 1e-5, {}}, narrow{"linear in bfloat16", 2e-2, {}},
      stored_narrow{"linear in and to bfloat16", 2e-2, {}};
  for (const auto& [m, n, k] : {std::tuple{1, 1, 1},
                                {1, 5, 3},
                                {7, 1, 2},
                                {3, 4, 1},
                                {13, 17, 11},
                                {16, 16, 16},
                                {31, 33, 29},
                                {64, 8, 65},
                                {5, 97, 128}})
    for (const Transpose a : {Transpose::kNo, Transpose::kYes})
      for (const Transpose b : {Transpose::kNo, Transpose::kYes}) {
        const std::int64_t rows = m, columns = n, inner = k;
        const float beta = a == b ? 0.0f : 1.0f;
        plain.cases.push_back({std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k) +
                                   (a == Transpose::kYes ? "T" : "N") + (b == Transpose::kYes ? "T" : "N"),
                               [=](Trial& t) {
                                 const std::int64_t lda = (a == Transpose::kYes ? rows : inner) + 2;
                                 const std::int64_t ldb = (b == Transpose::kYes ? inner : columns) + 1,
                                                    ldc = columns + 3;
                                 matmul(t.on, a, b, rows, columns, inner,
                                        t.in(normal((a == Transpose::kYes ? inner : rows) * lda, 1)), lda,
                                        t.in(normal((b == Transpose::kYes ? columns : inner) * ldb, 2)), ldb,
                                        beta, t.out("c", normal(rows * ldc, 3)), ldc);
                               }});
      }
  for (const Size& size : sizes()) {
    const std::int64_t n = size.columns % 97 + 1, k = size.rows % 61 + 1,
                       T = (size.rows + size.columns) % 71 + 1;
    const auto cases_of = [=](Precision precision, Precision stored) {
      return OperationCase{
          std::to_string(T) + " rows of " + std::to_string(k) + " to " + std::to_string(n), [=](Trial& t) {
            Linear matrix;
            matrix.prepare(t.on, n, k, t.in(normal(n * k, 1)), precision, Use::kTraining);
            const ConstValues in = t.in(stored, normal(T * k, 2)), d_out = t.in(stored, normal(T * n, 3));
            const float* bias = t.in(normal(n + 1, 5));
            matrix.forward(t.on, T, in, t.out("out", stored, unset(T * n)));
            matrix.forward(t.on, T, in, t.out("biased", stored, unset(T * n)), bias);
            matrix.forward(t.on, T, in, t.out("biased by what lies anywhere", stored, unset(T * n)),
                           bias + 1);
            matrix.forward(t.on, T, in, t.out("out in float32", unset(T * n)), bias);
            matrix.backward_input(t.on, T, d_out, t.out("d_in", stored, unset(T * k)));
            matrix.backward_weight(t.on, T, d_out, in, t.out("d_weight", normal(n * k, 4)));
            t.on.synchronise();  // before the prepared matrix goes
          }};
    };
    linear.cases.push_back(cases_of(Precision::kFloat32, Precision::kFloat32));
    if (!has_bfloat16()) continue;  // the CPU has none to compare with
    narrow.cases.push_back(cases_of(Precision::kBfloat16, Precision::kFloat32));
    stored_narrow.cases.push_back(cases_of(Precision::kBfloat16, Precision::kBfloat16));
  }
  return {plain,
          linear,
          narrow,
          stored_narrow,
          {"widen_bfloat16", 0, for_lengths([](Trial& t, std::int64_t n) {
             std::vector<Bfloat16> values;
             for (const float value : normal(n, 1)) values.push_back(to_bfloat16(value));
             widen_bfloat16(t.on, n, t.in(values), t.out("wide", unset(n)));
           })},
          {"round_to_bfloat16", 0, for_lengths([](Trial& t, std::int64_t n) {
             round_to_bfloat16(t.on, n, t.in(normal(n, 1)),
                               t.out("rounded", std::vector<Bfloat16>(static_cast<std::size_t>(n))));
           })},
          {"round_at_random", 0, for_lengths([](Trial& t, std::int64_t n) {
             round_at_random(t.on, 7, 3, 5 * n, n, t.in(normal(n, 1)),
                             t.out("rounded", std::vector<Bfloat16>(static_cast<std::size_t>(n))));
           })}};
}

std::vector<Operation> low_rank_rows(Precision stored) {
  Operation row = operation_in(stored, "low_rank", 1e-5, {});
  for (const std::int64_t rank : {1, 3, 8})
    for (const auto& [T, first_rows, second_rows, k] : {std::tuple{1, 1, 1, 1},
                                                        {2, 3, 1, 2},
                                                        {3, 1, 5, 7},
                                                        {5, 7, 7, 3},
                                                        {7, 13, 2, 11},
                                                        {13, 16, 8, 16},
                                                        {31, 5, 17, 33},
                                                        {33, 32, 3, 5},
                                                        {61, 2, 2, 65},
                                                        {67, 31, 1, 8}}) {
      const std::int64_t rows = T, above = first_rows, below = second_rows, width = k;
      const std::int64_t n = above + 1 + below;  // a row between them has no update
      row.cases.push_back({std::to_string(rows) + " rows of " + std::to_string(width) + " to " +
                               std::to_string(n) + ", rank " + std::to_string(rank),
                           [=](Trial& t) {
                             LowRank updates;
                             updates.prepare(t.on, n, width, rank, 0.7f, {{0, above}, {above + 1, below}},
                                             t.in(normal(2 * rank * width, 1)),
                                             t.in(normal((above + below) * rank, 2)));
                             const ConstValues in = t.in(stored, normal(rows * width, 3));
                             updates.forward(t.on, rows, in, t.out("out", stored, normal(rows * n, 4)));
                             updates.backward(t.on, rows, t.in(stored, normal(rows * n, 5)), in,
                                              t.out("d_in", stored, normal(rows * width, 6)),
                                              t.out("d_a", normal(2 * rank * width, 7)),
                                              t.out("d_b", normal((above + below) * rank, 8)));
                             t.on.synchronise();  // before what is prepared goes
                           }});
    }
  return {row};
}

std::vector<Operation> head_rows() {
  return {{"log_probability_rows", 2e-6, for_sizes([](Trial& t, std::int64_t n, std::int64_t V) {
             log_probability_rows(t.on, n, V, t.in(normal(n * V, 1, 3)),
                                  t.in(integers(n, static_cast<std::int32_t>(V), 2)), 1.3f,
                                  t.out("log-probability", unset(n)));
           })},
          {"log_probability_rows_backward", 2e-6, for_sizes([](Trial& t, std::int64_t n, std::int64_t V) {
             const float softcap = (n + V) % 2 == 0 ? 0.0f : 20.0f;
             log_probability_rows_backward(t.on, n, V, softcap, t.out("logits", normal(n * V, 1, 3)),
                                           t.in(integers(n, static_cast<std::int32_t>(V), 2)), 1.3f,
                                           t.in(normal(n, 3)), t.out("log-probability", unset(n)));
           })}};
}

/// Tokens have to be the same, so this row's tolerance is of log-probabilities alone: a token that differs is
/// a whole number away.
Operation sampling_row() {
  Operation row{"sample_tokens", 2e-6, {}};
  for (const std::int64_t V : {1, 2, 31, 127, 128, 129, 257, 1031})
    for (const auto& [temperature, top_p, greedy] : {std::tuple{1.0f, 1.0f, false},
                                                     {0.5f, 1.0f, false},
                                                     {2.0f, 0.9f, false},
                                                     {1.0f, 0.3f, false},
                                                     {1.0f, 1.0f, true}})
      for (const bool ties : {false, true}) {
        const SamplingShape shape{
            .rows = 7, .vocabulary = V, .temperature = temperature, .top_p = top_p, .greedy = greedy};
        row.cases.push_back(
            {"V=" + std::to_string(V) + " T=" + std::to_string(temperature) + " p=" + std::to_string(top_p) +
                 (greedy ? " greedy" : "") + (ties ? " ties" : ""),
             [=](Trial& t) {
               Floats logits = normal(shape.rows * V, 5, 2);
               if (ties)
                 for (float& logit : logits) logit = std::round(logit);
               const auto rows = static_cast<std::size_t>(shape.rows);
               float* x = t.out("logits", logits);
               sample_tokens(t.on, shape, x, t.in(uniforms(shape.rows, 6)), t.out("token", Ints(rows, -1)),
                             t.out("log-probability", Floats(rows)),
                             t.out("log-probability at 1", Floats(rows)));
             }});
      }
  return row;
}

std::vector<Operation> sum_rows() {
  static const std::vector<std::uint32_t> accepted{0};
  Operation add{"add_fixed_point", 0, for_lengths([](Trial& t, std::int64_t n) {
                  std::vector<std::int64_t> sum(static_cast<std::size_t>(n), 12345);
                  const Floats value = normal(n, 1, 100);
                  add_fixed_point(t.on, n, 64, t.in(value), t.out("sum", sum), t.out("refused", accepted));
                })};
  for (const auto& [name, bad] :
       {std::pair{"not a number", NAN}, {"infinite", INFINITY}, {"too large", 1e5f}})
    add.cases.push_back({name, [bad = bad](Trial& t) {
                           Floats value = normal(1300, 1);
                           value[1290] = bad;
                           std::vector<std::int64_t> sum(value.size(), 7);
                           add_fixed_point(t.on, std::ssize(value), 64, t.in(value), t.out("sum", sum),
                                           t.out("refused", accepted));
                         }});
  return {add,
          {"add_sums", 0, for_lengths([](Trial& t, std::int64_t n) {
             std::vector<std::int64_t> value, sum;
             for (const float entry : normal(2 * n, 1, 1e18))
               (std::ssize(value) < n ? value : sum).push_back(static_cast<std::int64_t>(entry));
             add_sums(t.on, n, t.in(value), t.out("sum", sum));
           })},
          {"from_fixed_point", 0, for_lengths([](Trial& t, std::int64_t n) {
             std::vector<std::int64_t> sum;
             for (const float value : normal(n, 1, 1e15)) sum.push_back(static_cast<std::int64_t>(value));
             from_fixed_point(t.on, n, t.in(sum), t.out("value", unset(n)));
           })},
          {"sum_of_squares", 0, for_lengths([](Trial& t, std::int64_t n) {
             sum_of_squares(
                 t.on, n, t.in(normal(n, 1)),
                 t.out("partial", Doubles(static_cast<std::size_t>((n + kSumBlock - 1) / kSumBlock))));
           })}};
}

std::vector<Operation> reward_rows() {
  return {{"score_forward", 1e-6, for_sizes([](Trial& t, std::int64_t n, std::int64_t C) {
             score_forward(t.on, n, C, t.in(normal(n * C, 1)), t.in(normal(C, 2)), t.out("score", unset(n)));
           })},
          {"score_backward", 1e-6, for_sizes([](Trial& t, std::int64_t n, std::int64_t C) {
             score_backward(t.on, n, C, t.in(normal(n * C, 1)), t.in(normal(C, 2)), t.in(normal(n, 3)),
                            t.out("d_hidden", unset(n * C)), t.out("d_weight", normal(C, 4)));
           })},
          {"calibration_lookup", 0, for_sizes([](Trial& t, std::int64_t n, std::int64_t K) {
             constexpr std::int64_t kPrompts = 3;
             Floats sorted = normal(kPrompts * K, 1), reward = normal(n, 2);
             for (Floats* values : {&sorted, &reward})
               for (float& value : *values) value = std::round(3 * value) / 3;  // ties
             reward[0] = n % 2 == 0 ? sorted[0] : 1e9f;
             for (std::int64_t p = 0; p < kPrompts; ++p)
               std::sort(sorted.begin() + p * K, sorted.begin() + (p + 1) * K);
             calibration_lookup(t.on, n, K, t.in(sorted), t.in(integers(n, kPrompts, 3)), t.in(reward),
                                t.out("calibrated", Doubles(static_cast<std::size_t>(n))));
           })},
          {"sketch_counts", 0, for_lengths([](Trial& t, std::int64_t n) {
             Floats reward = normal(n, 1);
             if (n > 3) reward[2] = NAN;
             sketch_counts(
                 t.on, n, t.in(reward),
                 t.out("counts", std::vector<std::uint64_t>(static_cast<std::size_t>(kSketchBuckets), 1)));
           })}};
}

}  // namespace

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = [] {
    std::vector<Operation> rows{adamw_row(), sampling_row()};
    for (const auto& more : {embedding_rows(), softcap_rows(), product_rows(), head_rows(), sum_rows(),
                             reward_rows(), attention_rows()})
      rows.insert(rows.end(), more.begin(), more.end());
    for (const Precision stored : {Precision::kFloat32, Precision::kBfloat16})
      for (const auto& more : {bias_rows(stored), activation_rows(stored), norm_rows(stored),
                               head_norm_and_rotary_rows(stored), low_rank_rows(stored)})
        rows.insert(rows.end(), more.begin(), more.end());
    return rows;
  }();
  return all;
}

std::vector<Result> run_on(const Stream& on, const OperationCase& test) {
  Trial trial(on);
  test.run(trial);
  return trial.results();
}

std::vector<std::string> operation_names() {
  std::vector<std::string> names;
  for (const Operation& operation : operations()) names.push_back(operation.name);
  return names;
}

const Operation& operation_named(const std::string& name) {
  for (const Operation& operation : operations())
    if (operation.name == name) return operation;
  throw std::out_of_range(name);
}

}  // namespace infalign::kernels::testing
