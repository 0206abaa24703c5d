// The norms of query and key heads against float64, their gradients against central differences.
#include "kernels/qk_norm/qk_norm.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

constexpr float kEpsilon = 1e-3f;

struct Case {
  std::int64_t T;
  AttentionShape shape;
  std::int64_t values() const { return T * shape.row(); }
};

std::vector<Case> cases() { return {{1, {1, 1, 1, 1}}, {5, {3, 1, 7, 1}}, {67, {2, 1, 4, 1}}}; }

Doubles reference(const Case& test, Doubles x, const Doubles& q_weight, const Doubles& k_weight) {
  const AttentionShape& shape = test.shape;
  for (std::int64_t t = 0; t < test.T; ++t)
    for (std::int64_t head = 0; head < shape.heads + shape.kv_heads; ++head) {
      double* at = x.data() + t * shape.row() + head * shape.head_dim;
      const Doubles& weight = head < shape.heads ? q_weight : k_weight;
      double squares = 0;
      for (std::size_t d = 0; d < weight.size(); ++d) squares += at[d] * at[d];
      const double rms = std::sqrt(squares / static_cast<double>(shape.head_dim) + double{kEpsilon});
      for (std::size_t d = 0; d < weight.size(); ++d) at[d] *= weight[d] / rms;
    }
  return x;
}

struct Outputs {
  Floats out, d_in, d_q_weight, d_k_weight;
};

Outputs run(const Case& test, const Floats& in, const Floats& q_weight, const Floats& k_weight,
            const Floats& d_out) {
  Outputs o{Floats(in.size()), d_out, Floats(q_weight.size(), 0.5f), Floats(k_weight.size(), 0.5f)};
  Floats inverse(static_cast<std::size_t>(test.T * (test.shape.heads + test.shape.kv_heads)));
  qk_norm_forward({}, test.shape, test.T, kEpsilon, in.data(), q_weight.data(), k_weight.data(), o.out.data(),
                  inverse.data());
  qk_norm_backward({}, test.shape, test.T, in.data(), q_weight.data(), k_weight.data(), inverse.data(),
                   o.d_in.data(), o.d_q_weight.data(), o.d_k_weight.data());
  return o;
}

TEST(QkNorm, AgreesWithReferenceAndCentralDifferences) {
  for (const Case& test : cases()) {
    const Floats in = normal(test.values(), 1), q_weight = normal(test.shape.head_dim, 2),
                 k_weight = normal(test.shape.head_dim, 3), d_out = normal(test.values(), 4);
    const Outputs actual = run(test, in, q_weight, k_weight, d_out);
    const auto loss = [&](const Doubles& x, const Doubles& q, const Doubles& k) {
      const Doubles out = reference(test, x, q, k);
      double sum = 0;
      for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * double{d_out[i]};
      return sum;
    };
    const Doubles x = widened(in), q = widened(q_weight), k = widened(k_weight);
    expect_close(reference(test, x, q, k), actual.out, 1e-6, "out");
    expect_close(numeric_gradient([&](const Doubles& at) { return loss(at, q, k); }, x), actual.d_in, 1e-6,
                 "d_in");
    Doubles d_q = numeric_gradient([&](const Doubles& at) { return loss(x, at, k); }, q);
    Doubles d_k = numeric_gradient([&](const Doubles& at) { return loss(x, q, at); }, k);
    for (Doubles* gradient : {&d_q, &d_k})
      for (double& value : *gradient) value += 0.5;  // added to what was there
    expect_close(d_q, actual.d_q_weight, 1e-6, "d_q_weight");
    expect_close(d_k, actual.d_k_weight, 1e-6, "d_k_weight");
  }
}

TEST(QkNorm, DoesNotDependOnThreads) {
  const Case test{333, {4, 2, 8, 1}};
  const Floats in = normal(test.values(), 5), q_weight = normal(8, 6), k_weight = normal(8, 7),
               d_out = normal(test.values(), 8);
  Outputs one, three;
  with_threads(1, [&] { one = run(test, in, q_weight, k_weight, d_out); });
  with_threads(3, [&] { three = run(test, in, q_weight, k_weight, d_out); });
  EXPECT_EQ(one.out, three.out);
  EXPECT_EQ(one.d_in, three.d_in);
  EXPECT_EQ(one.d_q_weight, three.d_q_weight);
  EXPECT_EQ(one.d_k_weight, three.d_k_weight);
}

}  // namespace
}  // namespace infalign::kernels
