#include "gpu/plain_product.h"

#include <cublasLt.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace infalign::benchmarks {
namespace {

using kernels::Precision;
using kernels::Transpose;
using kernels::cuda::Product;

constexpr std::size_t kWorkspace = 32 << 20;

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cuBLASLt, plain: ") + what + ": " +
                             cublasLtGetStatusString(status));
}

/// What create(handle) makes, until it is no longer used.
template <class Opaque, cublasStatus_t (*destroy)(Opaque*), class Create>
std::shared_ptr<Opaque> made(Create create) {
  Opaque* handle = nullptr;
  check(create(&handle), "a description");
  return {handle, [](Opaque* used) { static_cast<void>(destroy(used)); }};
}

/// Of `rows` of `columns` that lie row by row: to the library, which goes by columns, the transpose.
std::shared_ptr<cublasLtMatrixLayoutOpaque_t> layout(Precision element, std::int64_t rows,
                                                     std::int64_t columns, std::int64_t stride) {
  return made<cublasLtMatrixLayoutOpaque_t, cublasLtMatrixLayoutDestroy>([=](cublasLtMatrixLayout_t* handle) {
    return cublasLtMatrixLayoutCreate(handle, element == Precision::kFloat32 ? CUDA_R_32F : CUDA_R_16BF,
                                      static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows),
                                      stride);
  });
}

cublasLtHandle_t library() {
  static auto* const handle = [] {
    cublasLtHandle_t created = nullptr;
    check(cublasLtCreate(&created), "cublasLtCreate");
    return created;
  }();
  return handle;
}

}  // namespace

std::function<void()> plain_product(const kernels::Stream& on, const Product& p) {
  const auto how =
      made<cublasLtMatmulDescOpaque_t, cublasLtMatmulDescDestroy>([](cublasLtMatmulDesc_t* handle) {
        return cublasLtMatmulDescCreate(handle, CUBLAS_COMPUTE_32F, CUDA_R_32F);
      });
  const auto turn = [&](cublasLtMatmulDescAttributes_t attribute, Transpose transpose) {
    const cublasOperation_t value = transpose == Transpose::kYes ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublasLtMatmulDescSetAttribute(how.get(), attribute, &value, sizeof value), "a transpose");
  };
  turn(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b);  // c^T = op(b)^T op(a)^T
  turn(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a);
  const bool a_turned = p.transpose_a == Transpose::kYes, b_turned = p.transpose_b == Transpose::kYes;
  const auto a = layout(p.element, a_turned ? p.k : p.m, a_turned ? p.m : p.k, p.lda);
  const auto b = layout(p.element, b_turned ? p.n : p.k, b_turned ? p.k : p.n, p.ldb);
  const auto c = layout(p.c.stored(), p.m, p.n, p.ldc);

  const auto preference = made<cublasLtMatmulPreferenceOpaque_t, cublasLtMatmulPreferenceDestroy>(
      [](cublasLtMatmulPreference_t* handle) { return cublasLtMatmulPreferenceCreate(handle); });
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &kWorkspace, sizeof kWorkspace),
        "the size of the workspace");
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(library(), how.get(), b.get(), a.get(), c.get(), c.get(),
                                       preference.get(), 1, &found, &count),
        "the choice of an algorithm");
  if (count == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, "the choice of an algorithm");
  const auto workspace = std::make_shared<kernels::Buffer<std::byte>>(on, kWorkspace);
  return [=] {
    const float one = 1;
    check(cublasLtMatmul(library(), how.get(), &one, p.b, b.get(), p.a, a.get(), &p.beta, p.c.data(), c.get(),
                         p.c.data(), c.get(), &found.algo, workspace->data(), kWorkspace,
                         static_cast<cudaStream_t>(on.queue())),
          "cublasLtMatmul");
  };
}

}  // namespace infalign::benchmarks
