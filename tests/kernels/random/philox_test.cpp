// Philox against the known-answer vectors published with Random123, and the properties of our keys.
#include "kernels/random/philox.h"

#include <set>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using Words = std::array<std::uint32_t, 4>;

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Every word of the name of a draw matters, the upper halves of seed and prompt too.
TEST(Philox, EveryPartOfTheNameCounts) {
  constexpr std::uint64_t kHigh = std::uint64_t{1} << 40;
  const std::set<std::uint64_t> draws{random_bits({1, Purpose::kPolicy}, 2, 3, 4),
                                      random_bits({1 + kHigh, Purpose::kPolicy}, 2, 3, 4),
                                      random_bits({2, Purpose::kPolicy}, 2, 3, 4),
                                      random_bits({1, Purpose::kCalibration}, 2, 3, 4),
                                      random_bits({1, Purpose::kPolicy}, 2 + kHigh, 3, 4),
                                      random_bits({1, Purpose::kPolicy}, 3, 3, 4),
                                      random_bits({1, Purpose::kPolicy}, 2, 4, 4),
                                      random_bits({1, Purpose::kPolicy}, 2, 3, 5)};
  EXPECT_EQ(draws.size(), 8u);
}

// Chi-square with 63 degrees of freedom over consecutive positions, samples and prompts. The seed is fixed;
// for a random one the bound of 132 would be passed with probability 1e-6.
TEST(Philox, UniformAlongEveryCounter) {
  constexpr int kBins = 64, kDraws = 64000;
  constexpr double kExpected = 1.0 * kDraws / kBins;
  for (int along = 0; along < 3; ++along) {
    std::vector<double> count(kBins);
    for (std::uint32_t i = 0; i < kDraws; ++i) {
      const double u =
          random_uniform({42, Purpose::kPolicy}, along == 0 ? i : 7, along == 1 ? i : 7, along == 2 ? i : 7);
      ASSERT_GE(u, 0.0);
      ASSERT_LT(u, 1.0);
      ++count[static_cast<std::size_t>(u * kBins)];
    }
    double chi_square = 0;
    for (const double observed : count) chi_square += std::pow(observed - kExpected, 2) / kExpected;
    EXPECT_LT(chi_square, 132) << along;
  }
}

}  // namespace
}  // namespace infalign::kernels
