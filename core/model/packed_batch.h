// Sequences side by side without padding. A prompt stands once and all of its responses share it as a prefix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention/attention.h"

namespace infalign::model {

/// T tokens with their positions, cut into segments (see kernels::Segment).
struct PackedBatch {
  std::vector<std::int32_t> tokens;     // [T]
  std::vector<std::int32_t> positions;  // [T]
  std::vector<kernels::Segment> segments;

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }

  /// Adds a sequence of its own; returns the index of its segment.
  std::int32_t add(std::span<const std::int32_t> sequence);
  /// Adds a continuation of segment `prefix` (itself without a prefix); positions go on from its end.
  std::int32_t add(std::span<const std::int32_t> continuation, std::int32_t prefix);
  void clear();
};

/// Which rows' hidden states predict which tokens. A row may predict several (a prompt's last row predicts
/// the first token of every response).
struct Targets {
  std::vector<std::int32_t> rows;    // [n]
  std::vector<std::int32_t> tokens;  // [n]
  std::int64_t size() const { return static_cast<std::int64_t>(rows.size()); }

  /// The tokens of a whole sequence after its first.
  void add_sequence(const PackedBatch& batch, std::int32_t segment);
  /// All tokens of a continuation, the first predicted by the last row of its prefix.
  void add_continuation(const PackedBatch& batch, std::int32_t segment);
};

}  // namespace infalign::model
