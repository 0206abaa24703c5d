// The score head against float64, and its gradient against central differences.
#include "kernels/score/score.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

double score_of(const Doubles& hidden, const Doubles& weight, std::size_t i) {
  double sum = 0;
  for (std::size_t c = 0; c < weight.size(); ++c) sum += hidden[i * weight.size() + c] * weight[c];
  return sum;
}

TEST(Score, AgreesWithFloat64AndWithCentralDifferences) {
  for (const auto& [n, C] : {std::pair{1, 1}, {3, 5}, {7, 16}, {2, 33}}) {
    const Floats hidden = normal(n * C, 1), weight = normal(C, 2), d_score = normal(n, 3);
    Floats score(static_cast<std::size_t>(n)), d_hidden(hidden.size(), 9.0f), d_weight(weight.size(), 1.0f);
    score_forward({}, n, C, hidden.data(), weight.data(), score.data());
    score_backward({}, n, C, hidden.data(), weight.data(), d_score.data(), d_hidden.data(), d_weight.data());
    Doubles expected;
    for (std::size_t i = 0; i < score.size(); ++i)
      expected.push_back(score_of(widened(hidden), widened(weight), i));
    expect_close(expected, score, 1e-7, "score");
    const auto loss = [&](const Doubles& x, const Doubles& w) {
      double sum = 0;
      for (std::size_t i = 0; i < d_score.size(); ++i)
        sum += static_cast<double>(d_score[i]) * score_of(x, w, i);
      return sum;
    };
    expect_close(
        numeric_gradient([&](const Doubles& x) { return loss(x, widened(weight)); }, widened(hidden)),
        d_hidden, 1e-6, "d_hidden");
    Doubles d_weight_expected =
        numeric_gradient([&](const Doubles& w) { return loss(widened(hidden), w); }, widened(weight));
    for (double& value : d_weight_expected) value += 1;  // it is added to
    expect_close(d_weight_expected, d_weight, 1e-6, "d_weight");
  }
}

}  // namespace
}  // namespace infalign::kernels
