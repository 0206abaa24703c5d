// Packing sequences and picking the rows that predict them.
#include "core/model/packed_batch.h"

#include <limits>
#include <numeric>
#include <stdexcept>

namespace infalign::model {
namespace {

void check_length(const PackedBatch& batch, std::size_t length) {
  if (length == 0) throw std::invalid_argument("PackedBatch::add: an empty sequence");
  if (batch.tokens.size() + length > std::numeric_limits<std::int32_t>::max()) {
    throw std::invalid_argument("PackedBatch::add: more tokens than 32 bits can count");
  }
}

/// Appends the tokens at positions first_position, first_position + 1, ...
void append(PackedBatch& batch, std::span<const std::int32_t> sequence, std::int32_t first_position) {
  batch.tokens.insert(batch.tokens.end(), sequence.begin(), sequence.end());
  batch.positions.resize(batch.tokens.size());
  std::iota(batch.positions.end() - static_cast<std::ptrdiff_t>(sequence.size()), batch.positions.end(),
            first_position);
}

}  // namespace

std::int32_t PackedBatch::add(std::span<const std::int32_t> sequence) {
  check_length(*this, sequence.size());
  segments.push_back(
      {.begin = static_cast<std::int32_t>(size()), .length = static_cast<std::int32_t>(sequence.size())});
  append(*this, sequence, 0);
  return static_cast<std::int32_t>(segments.size()) - 1;
}

std::int32_t PackedBatch::add(std::span<const std::int32_t> continuation, std::int32_t prefix) {
  check_length(*this, continuation.size());
  const kernels::Segment before = segments.at(static_cast<std::size_t>(prefix));
  if (before.prefix_length != 0) throw std::invalid_argument("PackedBatch::add: a prefix that has a prefix");
  segments.push_back({.begin = static_cast<std::int32_t>(size()),
                      .length = static_cast<std::int32_t>(continuation.size()),
                      .prefix_begin = before.begin,
                      .prefix_length = before.length});
  append(*this, continuation, before.length);
  return static_cast<std::int32_t>(segments.size()) - 1;
}

void PackedBatch::clear() {
  tokens.clear();
  positions.clear();
  segments.clear();
}

void Targets::add_sequence(const PackedBatch& batch, std::int32_t segment) {
  const kernels::Segment& at = batch.segments.at(static_cast<std::size_t>(segment));
  for (std::int32_t row = at.begin; row + 1 < at.begin + at.length; ++row) {
    rows.push_back(row);
    tokens.push_back(batch.tokens[static_cast<std::size_t>(row) + 1]);
  }
}

void Targets::add_continuation(const PackedBatch& batch, std::int32_t segment) {
  const kernels::Segment& at = batch.segments.at(static_cast<std::size_t>(segment));
  if (at.prefix_length == 0)
    throw std::invalid_argument("Targets::add_continuation: a segment without a prefix");
  rows.push_back(at.prefix_begin + at.prefix_length - 1);
  tokens.push_back(batch.tokens[static_cast<std::size_t>(at.begin)]);
  add_sequence(batch, segment);
}

}  // namespace infalign::model
