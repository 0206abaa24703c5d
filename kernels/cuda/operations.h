// What the CUDA back end provides, as one table: a row for each operation, of the type of its contract. A
// build without CUDA has no table, needs no toolkit, and pays one comparison of a pointer for each operation.
// An operation's public function asks its stream's device and goes on through this table; nobody else reads
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/bias/bias.h"
#include "kernels/calibration/calibration.h"
#include "kernels/decode_attention/decode_attention.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gelu/gelu.h"
#include "kernels/head/rows.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/linear/products.h"
#include "kernels/matmul/matmul.h"
#include "kernels/qk_norm/qk_norm.h"
#include "kernels/reproducible_sum/reproducible_sum.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/sampling/sampling.h"
#include "kernels/score/score.h"
#include "kernels/softcap/softcap.h"
#include "kernels/swiglu/swiglu.h"

/// The one list of operations that run on a GPU. (A macro, as no template declares names.)
#define INFALIGN_CUDA_OPERATIONS(row)                                                                      \
  row(adamw) row(attention_forward) row(attention_backward) row(bias_forward) row(bias_backward)           \
      row(calibration_lookup) row(sketch_counts) row(cache_store) row(decode_attention)                    \
          row(embedding_forward) row(embedding_add) row(embedding_scale) row(embedding_backward)           \
              row(gelu_forward) row(gelu_backward) row(geglu_forward) row(geglu_backward)                  \
                  row(log_probability_rows) row(log_probability_rows_backward) row(add_layer_norm_forward) \
                      row(layer_norm_backward) row(round_to_bfloat16) row(round_at_random)                 \
                          row(widen_bfloat16) row(linear_forward) row(linear_backward_input)               \
                              row(linear_backward_weight) row(matmul) row(qk_norm_forward)                 \
                                  row(qk_norm_backward) row(add_fixed_point) row(add_sums)                 \
                                      row(from_fixed_point) row(sum_of_squares) row(add_rms_norm_forward)  \
                                          row(rms_norm_backward) row(rotary) row(sample_tokens)            \
                                              row(score_forward) row(score_backward) row(softcap_forward)  \
                                                  row(softcap_backward) row(swiglu_forward)                \
                                                      row(swiglu_backward)

namespace infalign::kernels {

/// Beside the operations: memory and streams, as device.h and peer_memory.h describe them.
struct CudaOperations {
  int (*device_count)();
  std::string (*device_identity)(int device);
  void* (*open_queue)(int device);
  void (*close_queue)(void* queue);
  void (*synchronise)(void* queue);
  void* (*allocate)(void* queue, std::size_t bytes);  // not zeroed
  void (*release)(void* queue, void* memory);
  void* (*allocate_pinned)(std::size_t bytes);
  void (*release_pinned)(void* memory);
  void* (*allocate_shared)(std::size_t bytes);  // not zeroed
  void (*release_shared)(void* memory);
  void (*handle_of_shared)(void* memory, std::byte* handle);  // a PeerHandle
  void* (*open_shared)(const std::byte* handle);
  void (*close_shared)(void* memory);
  void (*copy)(void* queue, std::size_t bytes, const void* from, void* to);
  void (*fill_zero)(void* queue, std::size_t bytes, void* to);
  void* (*create_event)();
  void (*destroy_event)(void* event);
  void (*record_event)(void* queue, void* event);
  void (*wait_for_event)(void* queue, void* event);
  void (*synchronise_event)(void* event);
  void (*begin_recording)(void* queue);
  void (*abandon_recording)(void* queue) noexcept;
  void* (*end_recording)(void* queue);
  void (*replay)(void* queue, void* recording);
  void (*destroy_recording)(void* recording);
// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a member
#define INFALIGN_ROW(operation) decltype(&kernels::operation) operation;
  INFALIGN_CUDA_OPERATIONS(INFALIGN_ROW)
#undef INFALIGN_ROW
};

/// The table; null in a build without CUDA.
const CudaOperations* cuda_operations();

/// The table. Errors: std::runtime_error in a build without CUDA.
const CudaOperations& on_cuda();

}  // namespace infalign::kernels
