// What gpu_benchmark measures: every operation of kernels/, a row or more each, at the sizes of
// benchmarks/roofline.py; how it is set up on a device, and with how many bytes and operations it is counted.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace infalign::benchmarks {

/// Those of an 8B model (Llama 3's).
struct Sizes {
  std::int64_t tokens = 8192;
  std::int64_t hidden = 4096, heads = 32, kv_heads = 8, head_dim = 128, feed_forward = 14336;
  std::int64_t vocabulary = 128256;
  std::int64_t chunk = 128;                    // rows of logits that the head has at a time
  std::int64_t sampled = 512;                  // rows
  std::int64_t decoding = 256, cached = 2048;  // rows, and the positions of each
  std::int64_t rewards = 1'000'000, rollouts = 64;
  std::int64_t parameters = 1'000'000'000;
  std::int64_t copied = 1 << 28, square = 8192;  // floats, and sides of matrices, that show the peaks
};

/// Sizes at which the CPU can play the GPU.
Sizes small_sizes();

struct Cost {
  double bytes = 0;               // read and written in memory, as the kernel's file counts them
  double operations = 0;          // floating-point; 0 where memory alone counts
  std::string dtype = "float32";  // of a product's factors, or of a table
};

struct Row {
  std::string operation;  // its name in kernels/cuda/operations.h
  std::string shape;
  Cost cost;
  /// Sets it up on a device, and returns what queues it once.
  std::function<std::function<void()>(const kernels::Stream&)> prepare;
  std::string paper;  // its name in benchmarks/roofline.py, where it has one
  std::string peer;   // whose it is, where it is not ours: it follows ours
};

std::vector<Row> rows(const Sizes& sizes);

/// What shares are of: a copy within the device's memory, and cuBLASLt's square products in float32 and
/// bfloat16.
std::vector<Row> peaks(const Sizes& sizes);

}  // namespace infalign::benchmarks
