// The words in which everyone above asks for products: of what precision, for what use.
#pragma once

namespace infalign::kernels {

/// In what the factors of products are, or what is stored.
enum class Precision { kFloat32, kBfloat16 };

/// Whether this processor multiplies bfloat16 itself (AVX-512 BF16 or AMX).
bool has_bfloat16();

/// What a prepared matrix is for; each use includes those before it.
enum class Use {
  kScoring,   // forward, many rows at a time: float32 is read as it lies, without a copy
  kSampling,  // forward, however few rows
  kTraining,  // backward too
};

}  // namespace infalign::kernels
