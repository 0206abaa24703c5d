// Decoding attention against plain loops in float64, against the packed attention it must agree with, and
// against itself with other rows around.
#include "kernels/decode_attention/decode_attention.h"

#include <numeric>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

/// A batch of sequences, each a prompt and some tokens of its own; the last token of each is the one being
/// decoded.
struct Sequences {
  AttentionShape shape;
  std::vector<std::int32_t> prompt_lengths;  // of each prompt slot
  std::vector<std::int32_t> prompt_slot;     // of each row
  std::vector<std::int32_t> own_length;      // of each row
  std::int64_t prompt_capacity, own_capacity;
};

struct Cache {
  Buffer<float> keys, values;
  CacheView view;
  Cache(const AttentionShape& shape, std::int64_t slots, std::int64_t capacity)
      : keys(static_cast<std::size_t>(slots * shape.kv_heads * shape.head_dim * capacity)),
        values(keys.size()),
        view{keys.data(), values.data(), slots, capacity} {
    // What was never stored must never be read.
    for (float& key : keys.span()) key = NAN;
    for (float& value : values.span()) value = NAN;
  }
};

/// Rows of the packed batch and the attention output of every sequence's last token, by the packed kernel.
struct Packed {
  std::vector<Segment> segments;
  std::vector<std::int64_t> last;  // row of each sequence's last token
  Floats qkv;
};

Packed pack(const Sequences& sequences) {
  Packed packed;
  std::int32_t T = 0;
  std::vector<std::int32_t> prompt_begin;
  for (const std::int32_t length : sequences.prompt_lengths) {
    prompt_begin.push_back(T);
    if (length > 0) packed.segments.push_back({T, length, 0, 0});
    T += length;
  }
  for (std::size_t i = 0; i < sequences.own_length.size(); ++i) {
    const auto slot = static_cast<std::size_t>(sequences.prompt_slot[i]);
    packed.segments.push_back(
        {T, sequences.own_length[i], prompt_begin[slot], sequences.prompt_lengths[slot]});
    T += sequences.own_length[i];
    packed.last.push_back(T - 1);
  }
  packed.qkv = normal(T * sequences.shape.row(), 11);
  return packed;
}

/// out [rows of `chosen`, heads * head_dim] of a decoding step of those sequences.
Floats decode(const Sequences& sequences, const Packed& packed, const std::vector<std::int32_t>& chosen) {
  const AttentionShape& shape = sequences.shape;
  const auto prompts = std::ssize(sequences.prompt_lengths), rows = std::ssize(sequences.own_length);
  Cache prompt(shape, prompts, sequences.prompt_capacity), own(shape, rows, sequences.own_capacity);
  std::size_t at = 0;
  const auto store = [&](std::int64_t slot, const CacheView& view) {
    const Segment& segment = packed.segments[at++];
    const std::vector<std::int32_t> slots(static_cast<std::size_t>(segment.length),
                                          static_cast<std::int32_t>(slot));
    std::vector<std::int32_t> positions(slots.size());
    std::iota(positions.begin(), positions.end(), 0);
    cache_store({}, shape, segment.length, packed.qkv.data() + segment.begin * shape.row(), slots.data(),
                positions.data(), view);
  };
  for (std::int64_t slot = 0; slot < prompts; ++slot)
    if (sequences.prompt_lengths[static_cast<std::size_t>(slot)] > 0) store(slot, prompt.view);
  for (std::int64_t slot = 0; slot < rows; ++slot) store(slot, own.view);

  const auto n = std::ssize(chosen);
  Floats qkv(static_cast<std::size_t>(n * shape.row()));
  std::vector<std::int32_t> prefix_slot, prefix_length, own_slot = chosen, own_length;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::size_t>(chosen[static_cast<std::size_t>(i)]);
    std::copy_n(packed.qkv.data() + packed.last[row] * shape.row(), shape.row(),
                qkv.data() + i * shape.row());
    prefix_slot.push_back(sequences.prompt_slot[row]);
    prefix_length.push_back(sequences.prompt_lengths[static_cast<std::size_t>(sequences.prompt_slot[row])]);
    own_length.push_back(sequences.own_length[row]);
  }
  Floats out(static_cast<std::size_t>(n * shape.heads * shape.head_dim));
  decode_attention({}, shape, n, qkv.data(), prompt.view, prefix_slot.data(), prefix_length.data(), own.view,
                   own_slot.data(), own_length.data(), out.data());
  return out;
}

std::vector<std::int32_t> all_rows(const Sequences& sequences) {
  std::vector<std::int32_t> chosen(sequences.own_length.size());
  std::iota(chosen.begin(), chosen.end(), 0);
  return chosen;
}

std::vector<Sequences> cases() {
  return {
      {{1, 1, 1, 1.0f}, {0}, {0}, {1}, 16, 16},
      {{3, 1, 5, 0.4f}, {7, 0}, {0, 1, 0}, {1, 9, 3}, 16, 16},
      {{8, 4, 8, 0.35f}, {21, 32}, {0, 0, 0, 1, 1}, {1, 16, 5, 17, 2}, 32, 32},
      {{4, 4, 32, 0.18f},
       {33, 40},
       std::vector<std::int32_t>(40, 1),
       std::vector<std::int32_t>(40, 6),
       48,
       16},
      // Own caches much longer than the prompts, and the reverse; the head dimensions of larger models.
      {{8, 4, 8, 0.35f}, {7, 16}, {0, 0, 1, 1}, {256, 257, 301, 18}, 16, 304},
      {{2, 2, 16, 0.25f}, {275, 3}, {0, 0, 1}, {5, 1, 130}, 288, 144},
      {{4, 1, 64, 0.125f}, {19}, {0, 0}, {263, 2}, 32, 272},
      {{3, 1, 80, 0.11f}, {261}, {0, 0}, {35, 33}, 272, 48},
      {{2, 1, 128, 0.088f}, {5}, {0, 0}, {67, 258}, 16, 272},
      // Windows of one token, within the response, into the prompt, wider than both; caps.
      {{2, 1, 4, 0.5f, 1}, {3}, {0, 0}, {1, 5}, 16, 16},
      {{4, 2, 8, 0.35f, 20}, {21, 32}, {0, 0, 0, 1, 1}, {1, 16, 25, 17, 2}, 32, 32},
      {{3, 1, 5, 0.4f, 100, 1.5f}, {7, 0}, {0, 1, 0}, {1, 9, 3}, 16, 16},
      {{8, 4, 8, 0.35f, 9, 0.75f}, {21, 32}, {0, 0, 0, 1, 1}, {1, 16, 5, 17, 2}, 32, 32},
  };
}

/// What the last token of sequence `row` attends to: out [heads * head_dim].
Doubles reference(const Sequences& sequences, const Packed& packed, std::size_t row) {
  const AttentionShape& shape = sequences.shape;
  const std::int64_t D = shape.head_dim;
  const Segment& own = packed.segments[packed.segments.size() - packed.last.size() + row];
  std::vector<std::int64_t> attended;  // rows of the packed batch
  for (std::int64_t t = 0; t < own.prefix_length; ++t) attended.push_back(own.prefix_begin + t);
  for (std::int64_t t = 0; t < own.length; ++t) attended.push_back(own.begin + t);
  if (shape.window > 0 && std::ssize(attended) > shape.window)
    attended.erase(attended.begin(), attended.end() - shape.window);
  const auto at = [&](std::int64_t token, std::int64_t head, std::int64_t d) {
    return static_cast<double>(packed.qkv[static_cast<std::size_t>(token * shape.row() + head * D + d)]);
  };
  Doubles out;
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    const std::int64_t key = shape.heads + head / (shape.heads / shape.kv_heads);
    double sum = 0;
    Doubles weighted(static_cast<std::size_t>(D));
    for (const std::int64_t token : attended) {
      double score = 0;
      for (std::int64_t d = 0; d < D; ++d) score += at(packed.last[row], head, d) * at(token, key, d);
      score *= static_cast<double>(shape.scale);
      const auto cap = static_cast<double>(shape.softcap);
      if (cap > 0) score = cap * std::tanh(score / cap);
      const double weight = std::exp(score);
      sum += weight;
      for (std::int64_t d = 0; d < D; ++d)
        weighted[static_cast<std::size_t>(d)] += weight * at(token, key + shape.kv_heads, d);
    }
    for (const double value : weighted) out.push_back(value / sum);
  }
  return out;
}

TEST(DecodeAttention, AgreesWithReference) {
  for (const Sequences& sequences : cases()) {
    const Packed packed = pack(sequences);
    Doubles expected;
    for (std::size_t row = 0; row < packed.last.size(); ++row) {
      const Doubles of_row = reference(sequences, packed, row);
      expected.insert(expected.end(), of_row.begin(), of_row.end());
    }
    expect_close(expected, decode(sequences, packed, all_rows(sequences)), 2e-6, "out");
  }
}

TEST(DecodeAttention, AgreesWithPackedAttention) {
  for (const Sequences& sequences : cases()) {
    const AttentionShape& shape = sequences.shape;
    const Packed packed = pack(sequences);
    const std::int64_t T = std::ssize(packed.qkv) / shape.row(), width = shape.heads * shape.head_dim;
    Floats out(static_cast<std::size_t>(T * width)), log_sum_exp(static_cast<std::size_t>(T * shape.heads));
    attention_forward({}, shape, packed.segments, packed.qkv.data(), out.data(), log_sum_exp.data());
    Doubles expected;
    for (const std::int64_t row : packed.last)
      expected.insert(expected.end(), out.begin() + row * width, out.begin() + (row + 1) * width);
    expect_close(expected, decode(sequences, packed, all_rows(sequences)), 2e-6, "out");
  }
}

TEST(DecodeAttention, RowDoesNotDependOnTheOthers) {
  for (const Sequences& sequences : cases()) {
    const Packed packed = pack(sequences);
    const std::vector<std::int32_t> chosen = all_rows(sequences);
    const Floats together = decode(sequences, packed, chosen);
    const auto width = static_cast<std::size_t>(sequences.shape.heads * sequences.shape.head_dim);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const Floats alone = decode(sequences, packed, {chosen[i]});
      EXPECT_TRUE(
          std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(i * width)))
          << "row " << i;
    }
  }
}

TEST(DecodeAttention, DoesNotDependOnThreads) {
  for (const Sequences& sequences : cases()) {
    const Packed packed = pack(sequences);
    Floats one, three;
    with_threads(1, [&] { one = decode(sequences, packed, all_rows(sequences)); });
    with_threads(3, [&] { three = decode(sequences, packed, all_rows(sequences)); });
    EXPECT_EQ(one, three);
  }
}

}  // namespace
}  // namespace infalign::kernels
