// The part of cuBLASLt that matmul.cu calls, as plain loops: every entry is one sum in float32, in ascending
// k, whatever the shape, stored in float32 or bfloat16. Arguments are checked as the library does.
#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/linear/bfloat16.h"
#include "support/cuda/queue.h"

namespace {

struct Layout {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t stride;
};
struct Description {
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const float* bias = nullptr;
};

float element(const void* data, cudaDataType_t type, std::int64_t at) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  const auto bits = static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(data)[at]) << 16;
  return std::bit_cast<float>(bits);
}

void put(void* data, cudaDataType_t type, std::int64_t at, float value) {
  if (type == CUDA_R_32F)
    static_cast<float*>(data)[at] = value;
  else
    static_cast<std::uint16_t*>(data)[at] = infalign::kernels::to_bfloat16(value);
}

/// d [m, n] = op(a) op(b) + beta d, and a bias [m] added to each column, all column-major.
void multiply(const Description& how, const Layout& a_layout, const void* a, const Layout& b_layout,
              const void* b, const Layout& d_layout, void* d, float alpha, float beta) {
  const auto m = static_cast<std::int64_t>(d_layout.rows), n = static_cast<std::int64_t>(d_layout.columns);
  const bool a_turned = how.transpose_a == CUBLAS_OP_T, b_turned = how.transpose_b == CUBLAS_OP_T;
  const auto k = static_cast<std::int64_t>(a_turned ? a_layout.rows : a_layout.columns);
  std::vector<float> rows(static_cast<std::size_t>(k * m)), sum(static_cast<std::size_t>(m));  // op(a)^T
  for (std::int64_t p = 0; p < k; ++p)
    for (std::int64_t i = 0; i < m; ++i)
      rows[static_cast<std::size_t>(p * m + i)] =
          element(a, a_layout.type, a_turned ? i * a_layout.stride + p : p * a_layout.stride + i);
  for (std::int64_t j = 0; j < n; ++j) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (std::int64_t p = 0; p < k; ++p) {
      const float factor =
          element(b, b_layout.type, b_turned ? p * b_layout.stride + j : j * b_layout.stride + p);
      const float* row = rows.data() + p * m;
      for (std::int64_t i = 0; i < m; ++i) sum[static_cast<std::size_t>(i)] += row[i] * factor;
    }
    for (std::int64_t i = 0; i < m; ++i) {
      const std::int64_t at = j * d_layout.stride + i;
      float value = alpha * sum[static_cast<std::size_t>(i)];
      if (beta != 0) value += beta * element(d, d_layout.type, at);
      if (how.epilogue == CUBLASLT_EPILOGUE_BIAS) value += how.bias[i];
      put(d, d_layout.type, at, value);
    }
  }
}

bool consistent(const Description& how, const Layout& a, const Layout& b, const Layout& d) {
  const bool a_turned = how.transpose_a == CUBLAS_OP_T, b_turned = how.transpose_b == CUBLAS_OP_T;
  const auto reaches = [](const Layout& layout) {
    return layout.stride >= static_cast<std::int64_t>(layout.rows) && layout.rows > 0 && layout.columns > 0;
  };
  return (a_turned ? a.columns : a.rows) == d.rows && (b_turned ? b.rows : b.columns) == d.columns &&
         (a_turned ? a.rows : a.columns) == (b_turned ? b.columns : b.rows) && reaches(a) && reaches(b) &&
         reaches(d) && a.type == b.type && (d.type == CUDA_R_32F || d.type == a.type) &&
         (d.type == CUDA_R_32F || how.epilogue == CUBLASLT_EPILOGUE_DEFAULT);  // biases are in d's type
}

template <class T, class Handle>
T& behind(Handle handle) {
  return *reinterpret_cast<T*>(const_cast<std::remove_const_t<std::remove_pointer_t<Handle>>*>(handle));
}

/// What an algorithm remembers of the product it was chosen for.
std::uint64_t fingerprint(const Description& how, const Layout& a, const Layout& b, const Layout& d) {
  return 1 + static_cast<std::uint64_t>(how.transpose_a) + 4 * static_cast<std::uint64_t>(how.transpose_b) +
         16 * static_cast<std::uint64_t>(a.type) + 4096 * static_cast<std::uint64_t>(b.type) +
         (std::uint64_t{1} << 20) * static_cast<std::uint64_t>(d.type) +
         (std::uint64_t{1} << 28) * static_cast<std::uint64_t>(how.epilogue);
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static char only;
  *handle = reinterpret_cast<cublasLtHandle_t>(&only);
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE   ? "CUBLAS_STATUS_INVALID_VALUE"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                                 : "a status of the stand-in";
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns, std::int64_t stride) {
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, stride});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete reinterpret_cast<Layout*>(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *description = reinterpret_cast<cublasLtMatmulDesc_t>(new Description);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete reinterpret_cast<Description*>(description);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t size) {
  Description& how = behind<Description>(description);
  const auto set = [&](auto& field) {
    if (size != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, size);
    return CUBLAS_STATUS_SUCCESS;
  };
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA) return set(how.transpose_a);
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSB) return set(how.transpose_b);
  if (attribute == CUBLASLT_MATMUL_DESC_EPILOGUE) return set(how.epilogue);
  if (attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER) return set(how.bias);
  return CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new char);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete reinterpret_cast<char*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t, const void*,
                                                    std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int asked,
                                              cublasLtMatmulHeuristicResult_t* found, int* count) {
  const auto& how = behind<Description>(description);
  const auto &a_layout = behind<Layout>(a), &b_layout = behind<Layout>(b);
  if (asked < 1 || !consistent(how, a_layout, b_layout, behind<Layout>(d)))
    return CUBLAS_STATUS_INVALID_VALUE;
  *found = {};
  found->algo.data[0] = fingerprint(how, a_layout, b_layout, behind<Layout>(d));
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, std::size_t,
                              cudaStream_t stream) {
  const Description how = behind<Description>(description);
  const Layout of_a = behind<Layout>(a_layout), of_b = behind<Layout>(b_layout),
               of_d = behind<Layout>(d_layout);
  if (!consistent(how, of_a, of_b, of_d) || c != d) return CUBLAS_STATUS_INVALID_VALUE;
  if (algorithm == nullptr || algorithm->data[0] != fingerprint(how, of_a, of_b, of_d))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  using infalign::host_cuda::is_device_memory;
  if (!is_device_memory(a) || !is_device_memory(b) || !is_device_memory(d))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool is_biased = how.epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (is_biased && (!is_device_memory(how.bias) || reinterpret_cast<std::uintptr_t>(how.bias) % 16 != 0))
    return CUBLAS_STATUS_INVALID_VALUE;
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  infalign::host_cuda::queue_work(stream, [=] { multiply(how, of_a, a, of_b, b, of_d, d, scale, keep); });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
