// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a random number is a
// pure function of a key and a counter. Ours are keyed by (seed, purpose) and counted by (prompt, sample,
// position), so a draw does not depend on the batch, the rank or the number of ranks that made it.
#pragma once

#include <array>
#include <cstdint>

namespace infalign::kernels {

/// Ten rounds of Philox4x32.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

/// What a random number is for; each purpose has a stream of its own.
enum class Purpose : std::uint32_t {
  kInitialisation = 1,
  kShuffle = 2,
  kCalibration = 3,
  kPolicy = 4,
  kEvaluationPolicy = 5,
  kEvaluationReference = 6,
  kGeneration = 7,
  kSplit = 8,
  kTables = 9,
  kSubsets = 10,
  kChoice = 11,
  kAdapter = 12,
  kRounding = 13,
};

/// What names a stream of draws.
struct RandomKey {
  std::uint64_t seed = 0;
  Purpose purpose = Purpose::kGeneration;
};

/// 64 random bits for (key, prompt, sample, position). The seed's upper half is mixed into the prompt word's
/// place by a second Philox call, so that all 64 bits of seed and of prompt count.
constexpr std::uint64_t random_bits(RandomKey key, std::uint64_t prompt, std::uint32_t sample,
                                    std::uint32_t position) {
  const auto inner =
      philox4x32({static_cast<std::uint32_t>(prompt), static_cast<std::uint32_t>(prompt >> 32),
                  static_cast<std::uint32_t>(key.seed >> 32), static_cast<std::uint32_t>(key.purpose)},
                 {static_cast<std::uint32_t>(key.seed), 0x1BD11BDA});
  const auto outer = philox4x32({inner[2], inner[3], sample, position}, {inner[0], inner[1]});
  return (std::uint64_t{outer[1]} << 32) | outer[0];
}

/// A uniform number in [0, 1) with 53 random bits.
constexpr double random_uniform(RandomKey key, std::uint64_t prompt, std::uint32_t sample,
                                std::uint32_t position) {
  return static_cast<double>(random_bits(key, prompt, sample, position) >> 11) * 0x1.0p-53;
}

}  // namespace infalign::kernels
