// Packed attention against a float64 loop over every pair of positions, and its gradient against central
// differences.
#include "kernels/attention/attention.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

struct Case {
  const char* name;
  AttentionShape shape;
  std::vector<Segment> segments;

  std::int64_t rows() const {
    std::int64_t T = 0;
    for (const Segment& segment : segments) T = std::max<std::int64_t>(T, segment.begin + segment.length);
    return T;
  }
};

AttentionShape shape_of(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) {
  return {heads, kv_heads, head_dim, static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)))};
}

AttentionShape with(AttentionShape shape, std::int64_t window, float softcap) {
  shape.window = window;
  shape.softcap = softcap;
  return shape;
}

std::vector<Case> cases() {
  return {
      {"one token", shape_of(1, 1, 1), {{0, 1, 0, 0}}},
      {"odd head", shape_of(3, 1, 5), {{0, 7, 0, 0}}},
      {"longer than a block", shape_of(4, 2, 8), {{0, 37, 0, 0}, {37, 3, 0, 0}}},
      {"shared prefix", shape_of(8, 4, 8), {{0, 19, 0, 0}, {19, 5, 0, 19}, {24, 16, 0, 19}, {40, 1, 0, 19}}},
      {"two families, wide heads",
       shape_of(4, 4, 32),
       {{0, 20, 0, 0}, {20, 17, 0, 20}, {37, 4, 0, 20}, {41, 16, 0, 0}, {57, 3, 41, 16}, {60, 2, 41, 16}}},
      {"prefixes in turns, one of them partial",
       shape_of(2, 1, 16),
       {{0, 4, 0, 0}, {4, 6, 0, 0}, {10, 3, 4, 6}, {13, 2, 0, 3}, {15, 2, 4, 6}}},
      {"continuation before its prefix", shape_of(2, 2, 4), {{0, 3, 3, 5}, {3, 5, 0, 0}}},
      {"a window of itself", with(shape_of(2, 1, 4), 1, 0), {{0, 9, 0, 0}, {9, 3, 0, 9}}},
      {"a window that ends within the prefix",
       with(shape_of(4, 2, 8), 5, 0),
       {{0, 11, 0, 0}, {11, 7, 0, 11}, {18, 2, 0, 4}}},
      {"a window that leaves blocks of keys out",
       with(shape_of(8, 1, 8), 6, 0),
       {{0, 21, 0, 0}, {21, 18, 0, 21}}},
      {"a window wider than the sequence", with(shape_of(2, 2, 4), 40, 0), {{0, 6, 0, 0}, {6, 5, 0, 6}}},
      {"capped scores", with(shape_of(3, 1, 5), 0, 1.5f), {{0, 7, 0, 0}, {7, 9, 0, 7}}},
      {"a window and a cap, odd heads", with(shape_of(3, 1, 5), 4, 0.75f), {{0, 17, 0, 0}, {17, 13, 0, 17}}},
  };
}

/// The rows that row `row` of a segment attends to.
std::vector<std::int64_t> seen_by(const Segment& segment, std::int64_t row, std::int64_t window) {
  std::vector<std::int64_t> seen;
  for (std::int64_t j = 0; j < segment.prefix_length; ++j) seen.push_back(segment.prefix_begin + j);
  for (std::int64_t j = segment.begin; j <= row; ++j) seen.push_back(j);
  if (window > 0 && std::ssize(seen) > window) seen.erase(seen.begin(), seen.end() - window);
  return seen;
}

struct Reference {
  Doubles out, log_sum_exp;
};

Reference reference(const Case& test, const Doubles& qkv) {
  const AttentionShape& shape = test.shape;
  const auto T = test.rows(), D = shape.head_dim;
  Reference result{Doubles(static_cast<std::size_t>(T * shape.heads * D)),
                   Doubles(static_cast<std::size_t>(T * shape.heads))};
  const auto at = [&](std::int64_t row, std::int64_t head, std::int64_t d) {
    return qkv[static_cast<std::size_t>(row * shape.row() + head * D + d)];
  };
  for (const Segment& segment : test.segments)
    for (std::int64_t row = segment.begin; row < segment.begin + segment.length; ++row)
      for (std::int64_t head = 0; head < shape.heads; ++head) {
        const std::int64_t key = shape.heads + head / (shape.heads / shape.kv_heads),
                           value = key + shape.kv_heads;
        const auto seen = seen_by(segment, row, shape.window);
        Doubles weight;
        double total = 0;
        for (const std::int64_t j : seen) {
          double score = 0;
          for (std::int64_t d = 0; d < D; ++d) score += at(row, head, d) * at(j, key, d);
          score *= static_cast<double>(shape.scale);
          const auto cap = static_cast<double>(shape.softcap);
          if (cap > 0) score = cap * std::tanh(score / cap);
          weight.push_back(std::exp(score));
          total += weight.back();
        }
        result.log_sum_exp[static_cast<std::size_t>(row * shape.heads + head)] = std::log(total);
        for (std::size_t j = 0; j < seen.size(); ++j)
          for (std::int64_t d = 0; d < D; ++d)
            result.out[static_cast<std::size_t>((row * shape.heads + head) * D + d)] +=
                weight[j] / total * at(seen[j], value, d);
      }
  return result;
}

struct Outputs {
  Floats out, log_sum_exp, d_qkv;
};

Outputs run(const Case& test, const Floats& qkv, const Floats& d_out) {
  const auto T = test.rows();
  Outputs outputs{Floats(d_out.size()), Floats(static_cast<std::size_t>(T * test.shape.heads)),
                  Floats(qkv.size(), 77.0f)};
  attention_forward({}, test.shape, test.segments, qkv.data(), outputs.out.data(),
                    outputs.log_sum_exp.data());
  attention_backward({}, test.shape, test.segments, T, qkv.data(), outputs.out.data(),
                     outputs.log_sum_exp.data(), d_out.data(), outputs.d_qkv.data());
  return outputs;
}

TEST(Attention, AgreesWithReference) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.name);
    const Floats qkv = normal(test.rows() * test.shape.row(), 1);
    const Floats d_out = normal(test.rows() * test.shape.heads * test.shape.head_dim, 2);
    const Outputs actual = run(test, qkv, d_out);
    const Reference expected = reference(test, widened(qkv));
    expect_close(expected.out, actual.out, 2e-6, "out");
    expect_close(expected.log_sum_exp, actual.log_sum_exp, 1e-6, "log_sum_exp");
  }
}

TEST(Attention, GradientAgreesWithCentralDifferences) {
  for (const Case& test : cases()) {
    if (test.rows() > 40) continue;  // the differences are quadratic in the size
    SCOPED_TRACE(test.name);
    const Floats qkv = normal(test.rows() * test.shape.row(), 3);
    const Floats d_out = normal(test.rows() * test.shape.heads * test.shape.head_dim, 4);
    const auto loss = [&](const Doubles& x) {
      const Doubles out = reference(test, x).out;
      double sum = 0;
      for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(d_out[i]);
      return sum;
    };
    expect_close(numeric_gradient(loss, widened(qkv)), run(test, qkv, d_out).d_qkv, 2e-6, "d_qkv");
  }
}

// Scores of several hundred: exponentials must be taken relative to the maximum, in the backward pass too.
TEST(Attention, StandsLargeScores) {
  const Case test{"large", shape_of(2, 1, 8), {{0, 21, 0, 0}, {21, 18, 0, 21}}};
  const Floats qkv = normal(test.rows() * test.shape.row(), 5, 12);
  const Floats d_out = normal(test.rows() * test.shape.heads * test.shape.head_dim, 6);
  const Outputs actual = run(test, qkv, d_out);
  const Reference expected = reference(test, widened(qkv));
  expect_close(expected.out, actual.out, 3e-5, "out");
  for (const float gradient : actual.d_qkv) ASSERT_TRUE(std::isfinite(gradient));
}

TEST(Attention, DoesNotDependOnThreads) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.name);
    const Floats qkv = normal(test.rows() * test.shape.row(), 7);
    const Floats d_out = normal(test.rows() * test.shape.heads * test.shape.head_dim, 8);
    Outputs one, three;
    with_threads(1, [&] { one = run(test, qkv, d_out); });
    with_threads(3, [&] { three = run(test, qkv, d_out); });
    EXPECT_EQ(one.out, three.out);
    EXPECT_EQ(one.log_sum_exp, three.log_sum_exp);
    EXPECT_EQ(one.d_qkv, three.d_qkv);
  }
}

// A response's numbers are the same whichever responses stand beside it: the sampler and the trainer rely on
// it.
TEST(Attention, SegmentDoesNotDependOnItsNeighbours) {
  const AttentionShape shape = shape_of(4, 2, 8);
  const Case together{"together", shape, {{0, 13, 0, 0}, {13, 7, 0, 13}, {20, 11, 0, 13}}};
  const Case alone{"alone", shape, {{0, 13, 0, 0}, {13, 7, 0, 13}}};
  const Floats qkv = normal(together.rows() * shape.row(), 9);
  const Floats first(qkv.begin(), qkv.begin() + alone.rows() * shape.row());
  const auto out_of = [&](const Case& test, const Floats& rows) {
    return run(test, rows, normal(test.rows() * shape.heads * shape.head_dim, 10)).out;
  };
  const Floats both = out_of(together, qkv), one = out_of(alone, first);
  EXPECT_TRUE(std::equal(one.begin(), one.end(), both.begin()));
}

}  // namespace
}  // namespace infalign::kernels
