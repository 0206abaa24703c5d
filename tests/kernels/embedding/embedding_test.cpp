// Rows out of a table, and gradients back into it with tokens that repeat.
#include "kernels/embedding/embedding.h"

#include "kernels/linear/bfloat16.h"
#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

TEST(Embedding, PicksRows) {
  const Floats table = normal(7 * 5, 1);
  const std::vector<std::int32_t> tokens{6, 0, 6, 3};
  Floats out(tokens.size() * 5);
  embedding_forward({}, 4, 5, tokens.data(), table.data(), out.data());
  for (std::size_t t = 0; t < tokens.size(); ++t)
    for (std::size_t c = 0; c < 5; ++c)
      EXPECT_EQ(out[t * 5 + c], table[static_cast<std::size_t>(tokens[t]) * 5 + c]);
}

// Bit for bit the sum in ascending t, whatever the number of threads.
TEST(Embedding, GradientAddsInOrder) {
  const std::int64_t T = 400, C = 131, V = 11;
  const Floats d_out = normal(T * C, 2), before = normal(V * C, 3);
  std::vector<std::int32_t> tokens;
  for (std::int64_t t = 0; t < T; ++t) tokens.push_back(static_cast<std::int32_t>(t * t % V));
  Floats expected = before;
  for (std::int64_t t = 0; t < T; ++t)
    for (std::int64_t c = 0; c < C; ++c)
      expected[static_cast<std::size_t>(tokens[static_cast<std::size_t>(t)] * C + c)] +=
          d_out[static_cast<std::size_t>(t * C + c)];
  for (const int threads : {1, 3})
    with_threads(threads, [&] {
      Floats d_table = before;
      embedding_backward({}, T, C, tokens.data(), d_out.data(), d_table.data());
      EXPECT_EQ(d_table, expected) << threads;
    });
}

TEST(Embedding, PositionsAreAddedAndValuesScaled) {
  const std::int64_t T = 300, C = 7;
  const Floats table = normal(5 * C, 8), before = normal(T * C, 9);
  std::vector<std::int32_t> positions;
  for (std::int32_t t = 0; t < T; ++t) positions.push_back(t * 3 % 5);
  Floats x = before;
  embedding_add({}, T, C, positions.data(), table.data(), x.data());
  embedding_scale({}, T * C, 0.25f, x.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto at = static_cast<std::size_t>(positions[i / 7]) * 7 + i % 7;
    EXPECT_EQ(x[i], (before[i] + table[at]) * 0.25f);
  }
}

TEST(Embedding, OfATableInBfloat16IsThatOfItsValues) {
  const std::int64_t V = 11, C = 37;
  const std::vector<std::int32_t> tokens = {3, 0, 10, 3};
  const Floats wide = normal(V * C, 1);
  std::vector<Bfloat16> narrow;
  Floats rounded;
  for (const float value : wide) {
    narrow.push_back(to_bfloat16(value));
    rounded.push_back(from_bfloat16(narrow.back()));
  }
  Floats expected(tokens.size() * static_cast<std::size_t>(C)), actual = expected;
  embedding_forward({}, std::ssize(tokens), C, tokens.data(), rounded.data(), expected.data());
  embedding_forward({}, std::ssize(tokens), C, tokens.data(), narrow.data(), actual.data());
  EXPECT_EQ(expected, actual);
  embedding_add({}, std::ssize(tokens), C, tokens.data(), rounded.data(), expected.data());
  embedding_add({}, std::ssize(tokens), C, tokens.data(), narrow.data(), actual.data());
  EXPECT_EQ(expected, actual);
}

}  // namespace
}  // namespace infalign::kernels
