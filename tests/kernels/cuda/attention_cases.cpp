#include "kernels/cuda/attention_cases.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/decode_attention/decode_attention.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/support.h"

namespace infalign::kernels::testing {
namespace {

struct Packed {
  std::string name;
  std::int64_t heads, kv_heads;
  std::int64_t window;
  float softcap;
  std::vector<Segment> segments;
};

/// Segments on all sides of a tile of 32 lanes or keys, prefixes of every kind.
std::vector<Packed> packed_batches() {
  return {
      {"one token", 1, 1, 0, 0, {{0, 1, 0, 0}}},
      {"odd heads", 3, 1, 0, 0, {{0, 7, 0, 0}}},
      {"longer than a tile", 2, 2, 0, 0, {{0, 67, 0, 0}, {67, 3, 0, 0}}},
      {"a shared prefix", 4, 2, 0, 0, {{0, 19, 0, 0}, {19, 5, 0, 19}, {24, 16, 0, 19}, {40, 1, 0, 19}}},
      {"a prefix longer than a tile", 2, 1, 0, 0, {{0, 45, 0, 0}, {45, 9, 0, 45}, {54, 33, 0, 45}}},
      {"prefixes in turns, one of them partial",
       2,
       1,
       0,
       0,
       {{0, 4, 0, 0}, {4, 6, 0, 0}, {10, 3, 4, 6}, {13, 2, 0, 3}, {15, 2, 4, 6}}},
      {"continuation before its prefix", 2, 2, 0, 0, {{0, 3, 3, 5}, {3, 5, 0, 0}}},
      {"a window of itself", 2, 1, 1, 0, {{0, 9, 0, 0}, {9, 3, 0, 9}}},
      {"a window that leaves tiles of keys out", 4, 1, 6, 0, {{0, 41, 0, 0}, {41, 38, 0, 41}}},
      {"capped scores", 3, 1, 0, 1.5f, {{0, 7, 0, 0}, {7, 9, 0, 7}}},
      {"a window and a cap", 3, 1, 4, 0.75f, {{0, 17, 0, 0}, {17, 33, 0, 17}}},
      {"8,192 tokens", 1, 1, 0, 0, {{0, 8192, 0, 0}}},
      {"8,192 tokens with a window", 2, 1, 97, 0, {{0, 8192, 0, 0}}},
  };
}

constexpr std::int64_t kHeadDims[] = {1, 5, 16, 64, 80, 96, 128, 256};

/// Those beside them that tiles of 128 lanes (64 of wide heads), 64 keys and, on their other side, 32 take.
std::vector<Packed> more_packed_batches() {
  return {
      {"exactly a tile of lanes", 8, 2, 0, 0, {{0, 32, 0, 0}}},
      {"a lane and a key more than a tile", 3, 1, 0, 0, {{0, 43, 0, 0}, {43, 22, 0, 43}}},
      {"a tile of keys and one key", 1, 1, 0, 0, {{0, 65, 0, 0}}},
      {"a response before a long prefix", 6, 2, 0, 2.5f, {{0, 1, 1, 33}, {1, 33, 0, 0}, {34, 30, 1, 33}}},
      {"263 tokens and their responses", 2, 1, 0, 0, {{0, 263, 0, 0}, {263, 67, 0, 263}, {330, 13, 0, 263}}},
      {"1,031 tokens with a window", 2, 1, 97, 0, {{0, 1031, 0, 0}}},
  };
}

AttentionShape shape_of(const Packed& batch, std::int64_t head_dim) {
  return {.heads = batch.heads,
          .kv_heads = batch.kv_heads,
          .head_dim = head_dim,
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim))),
          .window = batch.window,
          .softcap = batch.softcap};
}

/// Both passes over a batch, as cases of `forward` and `backward`.
void add_cases(const Packed& batch, const AttentionShape& shape, Precision stored, Operation& forward,
               Operation& backward) {
  const std::vector<Segment> segments = batch.segments;
  std::int64_t rows = 0;
  for (const Segment& segment : segments) rows = std::max<std::int64_t>(rows, segment.begin + segment.length);
  const std::int64_t T = rows, outputs = T * shape.heads * shape.head_dim;
  const std::string name = batch.name + ", heads of " + std::to_string(shape.head_dim);
  forward.cases.push_back(
      {name, [=](Trial& t) {
         attention_forward(t.on, shape, segments, t.in(stored, normal(T * shape.row(), 1)),
                           t.out("out", stored, Floats(static_cast<std::size_t>(outputs), 7.0f)),
                           t.out("log_sum_exp", Floats(static_cast<std::size_t>(T * shape.heads), 7.0f)));
       }});
  backward.cases.push_back(
      {name, [=](Trial& t) {
         // The forward pass's results, the CPU's for both devices.
         Trial before((Stream()));
         const ConstValues qkv = before.in(stored, normal(T * shape.row(), 1));
         Floats out(static_cast<std::size_t>(outputs)),
             log_sum_exp(static_cast<std::size_t>(T * shape.heads));
         attention_forward({}, shape, segments, qkv, out.data(), log_sum_exp.data());
         attention_backward(t.on, shape, segments, T, t.in(stored, normal(T * shape.row(), 1)),
                            t.in(stored, out), t.in(log_sum_exp), t.in(stored, normal(outputs, 2)),
                            t.out("d_qkv", stored, Floats(static_cast<std::size_t>(T * shape.row()), 77.0f)));
       }});
}

std::vector<Operation> packed_rows() {
  Operation forward{"attention_forward", 3e-6, {}}, backward{"attention_backward", 5e-6, {}};
  for (const Packed& batch : packed_batches())
    for (const std::int64_t head_dim : kHeadDims) {
      const std::int64_t last = batch.segments.back().begin + batch.segments.back().length;
      if ((head_dim > 64 && last > 60) || (head_dim > 5 && last > 1000)) continue;  // slow
      add_cases(batch, shape_of(batch, head_dim), Precision::kFloat32, forward, backward);
    }
  return {forward, backward};
}

/// Through tensor cores. The tolerance is of weights and their gradients, and of results, each rounded by up
/// to 2^-8 of its size; a number in the place of another is off by as much as there is.
std::vector<Operation> packed_rows_in_bfloat16() {
  Operation forward{"attention_forward in bfloat16", 4.5e-3, {}},
      backward{"attention_backward in bfloat16", 6e-3, {}};
  std::vector<Packed> batches = packed_batches();
  for (const Packed& batch : more_packed_batches()) batches.push_back(batch);
  for (const Packed& batch : batches)
    for (const std::int64_t head_dim : {1, 5, 64, 80, 90, 96, 128, 256}) {
      const std::int64_t last = batch.segments.back().begin + batch.segments.back().length;
      if ((head_dim != 64 && last > 70) || last > 2000) continue;  // slow
      add_cases(batch, shape_of(batch, head_dim), Precision::kBfloat16, forward, backward);
    }
  return {forward, backward};
}

struct Decoding {
  std::string name;
  std::int64_t heads, kv_heads, head_dim, window;
  float softcap;
  std::vector<std::int32_t> prompt_length, prompt_slot, own_length;
};

std::vector<Decoding> decodings() {
  std::vector<Decoding> all;
  for (const std::int64_t head_dim : {1, 5, 16, 64, 80, 96, 128, 256})
    for (const auto& [heads, kv_heads] : {std::pair{1, 1}, {4, 2}, {11, 1}}) {
      const std::string name =
          std::to_string(heads) + "/" + std::to_string(kv_heads) + " heads of " + std::to_string(head_dim);
      all.push_back({name, heads, kv_heads, head_dim, 0, 0, {7, 19}, {0, 1, 0}, {1, 17, 5}});
      all.push_back({name + ", window", heads, kv_heads, head_dim, 9, 0, {7, 19}, {0, 1, 0}, {1, 17, 5}});
    }
  all.push_back({"longer than a block", 2, 1, 8, 0, 0, {300}, {0, 0}, {270, 3}});
  all.push_back({"a window over the blocks' edge", 2, 1, 8, 260, 0, {300}, {0, 0}, {270, 3}});
  all.push_back({"a window within the response", 2, 1, 8, 2, 0, {30}, {0, 0}, {40, 3}});
  all.push_back({"capped", 4, 2, 16, 0, 1.25f, {7}, {0, 0}, {1, 17}});
  all.push_back({"8,192 tokens behind 8,191", 2, 1, 64, 0, 0, {8191}, {0, 0}, {8192, 1}});
  return all;
}

/// A cache full of numbers, NaN where nothing was stored: what was never stored must not be read.
Floats cache_of(std::int64_t slots, const AttentionShape& shape, std::int64_t capacity, std::uint32_t seed) {
  return normal(slots * shape.kv_heads * shape.head_dim * capacity, seed);
}

std::vector<Operation> decoding_rows(Precision stored) {
  const std::string suffix = stored == Precision::kBfloat16 ? " in bfloat16" : "";
  Operation store{"cache_store" + suffix, 0, {}};
  Operation attend{"decode_attention" + suffix, stored == Precision::kBfloat16 ? 4e-3 : 3e-6, {}};
  for (const Decoding& step : decodings()) {
    const AttentionShape shape{.heads = step.heads,
                               .kv_heads = step.kv_heads,
                               .head_dim = step.head_dim,
                               .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(step.head_dim))),
                               .window = step.window,
                               .softcap = step.softcap};
    const auto capacity = [](const std::vector<std::int32_t>& lengths) {
      return (*std::max_element(lengths.begin(), lengths.end()) + 15) / 16 * std::int64_t{16};
    };
    const std::int64_t prompt_capacity = capacity(step.prompt_length),
                       own_capacity = capacity(step.own_length);
    const auto n = std::ssize(step.own_length), prompts = std::ssize(step.prompt_length);
    attend.cases.push_back(
        {step.name, [=](Trial& t) {
           std::vector<std::int32_t> prefix_length, own_slot;
           for (std::int64_t i = 0; i < n; ++i) {
             prefix_length.push_back(
                 step.prompt_length[static_cast<std::size_t>(step.prompt_slot[static_cast<std::size_t>(i)])]);
             own_slot.push_back(static_cast<std::int32_t>(n - 1 - i));
           }
           const Values keys = t.out("prefix keys", stored, cache_of(prompts, shape, prompt_capacity, 1));
           const Values values = t.out("prefix values", stored, cache_of(prompts, shape, prompt_capacity, 2));
           const Values own_keys = t.out("own keys", stored, cache_of(n, shape, own_capacity, 3));
           const Values own_values = t.out("own values", stored, cache_of(n, shape, own_capacity, 4));
           decode_attention(t.on, shape, n, t.in(stored, normal(n * shape.row(), 5)),
                            {keys, values, prompts, prompt_capacity}, t.in(step.prompt_slot),
                            t.in(prefix_length), {own_keys, own_values, n, own_capacity}, t.in(own_slot),
                            t.in(step.own_length),
                            t.out("out", stored,
                                  Floats(static_cast<std::size_t>(n * shape.heads * shape.head_dim), 7.0f)));
         }});
    store.cases.push_back({step.name, [=](Trial& t) {
                             std::vector<std::int32_t> slot, position;
                             for (std::int64_t i = 0; i < n; ++i) {
                               slot.push_back(static_cast<std::int32_t>(n - 1 - i));
                               position.push_back(step.own_length[static_cast<std::size_t>(i)] - 1);
                             }
                             const Values keys = t.out("keys", stored, cache_of(n, shape, own_capacity, 1));
                             const Values values =
                                 t.out("values", stored, cache_of(n, shape, own_capacity, 2));
                             cache_store(t.on, shape, n, t.in(stored, normal(n * shape.row(), 3)), t.in(slot),
                                         t.in(position), {keys, values, n, own_capacity});
                           }});
  }
  return {store, attend};
}

}  // namespace

std::vector<Operation> attention_rows() {
  std::vector<Operation> rows = packed_rows();
  for (const auto& more :
       {packed_rows_in_bfloat16(), decoding_rows(Precision::kFloat32), decoding_rows(Precision::kBfloat16)})
    rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

}  // namespace infalign::kernels::testing
