// The head against a float64 log-softmax, over chunk boundaries, and its gradients against central
// differences.
#include "kernels/head/head.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

struct Case {
  std::int64_t n, C, V;
  float inverse_temperature;
  float softcap = 0;
};

std::vector<std::int32_t> targets(const Case& test, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<std::int32_t> target(static_cast<std::size_t>(test.n));
  for (auto& token : target) token = static_cast<std::int32_t>(engine() % static_cast<std::uint32_t>(test.V));
  target.back() = static_cast<std::int32_t>(test.V - 1);
  return target;
}

/// log softmax(inverse_temperature * weight hidden)[target] for each row, and the row's log-sum-exp.
struct Reference {
  Doubles log_probability, log_sum_exp;
};

Reference reference(const Case& test, const Doubles& hidden, const Doubles& weight,
                    const std::vector<std::int32_t>& target) {
  Reference result;
  for (std::int64_t i = 0; i < test.n; ++i) {
    Doubles logits;
    for (std::int64_t v = 0; v < test.V; ++v) {
      double sum = 0;
      for (std::int64_t c = 0; c < test.C; ++c)
        sum += hidden[static_cast<std::size_t>(i * test.C + c)] *
               weight[static_cast<std::size_t>(v * test.C + c)];
      const auto cap = static_cast<double>(test.softcap);
      if (cap > 0) sum = cap * std::tanh(sum / cap);
      logits.push_back(sum * static_cast<double>(test.inverse_temperature));
    }
    const double most = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (const double logit : logits) total += std::exp(logit - most);
    result.log_sum_exp.push_back(most + std::log(total));
    const auto chosen = static_cast<std::size_t>(target[static_cast<std::size_t>(i)]);
    result.log_probability.push_back(logits[chosen] - result.log_sum_exp.back());
  }
  return result;
}

struct Outputs {
  Floats log_probability, d_hidden, d_weight;
};

Outputs run(const Case& test, const Floats& hidden, const Floats& weight,
            const std::vector<std::int32_t>& target, const Floats& d_log_probability, float d_weight_before) {
  const auto n = static_cast<std::size_t>(test.n);
  Outputs out{Floats(n), Floats(hidden.size(), 77.0f), Floats(weight.size(), d_weight_before)};
  Linear head;
  head.prepare({}, test.V, test.C, weight.data(), Precision::kFloat32, Use::kTraining);
  head_forward_backward({}, test.n, test.C, test.V, hidden.data(), head, target.data(),
                        test.inverse_temperature, d_log_probability.data(), out.log_probability.data(),
                        out.d_hidden.data(), out.d_weight.data(), test.softcap);
  Floats forward_only(n);
  head_forward({}, test.n, test.C, test.V, hidden.data(), head, target.data(), test.inverse_temperature,
               forward_only.data(), test.softcap);
  for (std::size_t i = 0; i < n; ++i)
    if (!std::isnan(forward_only[i])) {
      EXPECT_EQ(forward_only[i], out.log_probability[i]);
    }
  return out;
}

TEST(Head, LogProbabilityAgreesWithReference) {
  for (const Case& test :
       {Case{1, 1, 1, 1.0f}, Case{1, 3, 7, 0.5f}, Case{5, 16, 64, 1.0f}, Case{37, 64, 513, 1.25f},
        Case{523, 8, 1031, 1.0f}, Case{5, 16, 64, 1.25f, 1.5f}, Case{523, 8, 1031, 1.0f, 30.0f}}) {
    SCOPED_TRACE(test.n);
    const Floats hidden = normal(test.n * test.C, 1), weight = normal(test.V * test.C, 2, 0.5);
    const auto target = targets(test, 3);
    const Outputs out = run(test, hidden, weight, target, Floats(target.size()), 0);
    const Reference expected = reference(test, widened(hidden), widened(weight), target);
    expect_close(expected.log_probability, out.log_probability, 1e-6, "log_probability");
  }
}

TEST(Head, GradientAgreesWithCentralDifferences) {
  for (const Case& test :
       {Case{1, 1, 2, 1.0f}, Case{1, 3, 7, 0.5f}, Case{7, 5, 33, 1.25f}, Case{7, 5, 33, 1.25f, 2.0f}}) {
    SCOPED_TRACE(test.n);
    const Floats hidden = normal(test.n * test.C, 4), weight = normal(test.V * test.C, 5);
    const Floats d_log_probability = normal(test.n, 6);
    const auto target = targets(test, 7);
    const auto loss = [&](const Doubles& h, const Doubles& w) {
      const Doubles values = reference(test, h, w, target).log_probability;
      double sum = 0;
      for (std::size_t i = 0; i < values.size(); ++i)
        sum += values[i] * static_cast<double>(d_log_probability[i]);
      return sum;
    };
    const Doubles h = widened(hidden), w = widened(weight);
    const Outputs out = run(test, hidden, weight, target, d_log_probability, 0.25f);
    expect_close(numeric_gradient([&](const Doubles& x) { return loss(x, w); }, h), out.d_hidden, 1e-6,
                 "d_hidden");
    Doubles d_weight = numeric_gradient([&](const Doubles& x) { return loss(h, x); }, w);
    for (double& value : d_weight) value += 0.25;  // added to what was there
    expect_close(d_weight, out.d_weight, 1e-6, "d_weight");
  }
}

// Where the gradient of a row is zero in closed form: the probabilities of its chunk must sum to one. Many
// chunks.
TEST(Head, GradientOfEqualWeightsVanishes) {
  const Case test{1100, 4, 301, 1.0f};
  const Floats hidden = normal(test.n * test.C, 8), weight(static_cast<std::size_t>(test.V * test.C), 0.5f);
  const auto target = targets(test, 9);
  const Outputs out = run(test, hidden, weight, target, Floats(target.size(), 1.0f), 0);
  expect_close(Doubles(out.d_hidden.size(), 0.0), out.d_hidden, 5e-6, "d_hidden");
  expect_close(Doubles(target.size(), -std::log(301.0)), out.log_probability, 1e-7, "log_probability");
}

// A probability that float32 cannot hold still has its logarithm, and nothing overflows on the way.
TEST(Head, StandsLargeLogits) {
  const Case test{2, 1, 3, 1.0f};
  const Floats hidden{1.0f, -1.0f}, weight{500.0f, -500.0f, 0.0f};
  const Outputs out = run(test, hidden, weight, {1, 1}, {1.0f, 1.0f}, 0);
  EXPECT_FLOAT_EQ(out.log_probability[0], -1000.0f);
  EXPECT_FLOAT_EQ(out.log_probability[1], 0.0f);
  EXPECT_FLOAT_EQ(out.d_hidden[0], -1000.0f);
  EXPECT_FLOAT_EQ(out.d_hidden[1], 0.0f);
}

TEST(Head, NanInHiddenShows) {
  const Case test{2, 2, 40, 1.0f};
  Floats hidden = normal(4, 10);
  hidden[0] = NAN;
  const Outputs out = run(test, hidden, normal(80, 11), {1, 2}, {1.0f, 1.0f}, 0);
  EXPECT_TRUE(std::isnan(out.log_probability[0]));
  EXPECT_TRUE(std::isnan(out.d_hidden[0]));
  EXPECT_TRUE(std::isfinite(out.log_probability[1]));
}

}  // namespace
}  // namespace infalign::kernels
