// The seam to cuBLASLt. An algorithm is asked for once for each kind of product and kept. None may split a
// sum over blocks (no workspace, no reduction scheme), so a row's sum has one order, which depends on the
// algorithm alone: the same bits from run to run, and, where the algorithm is chosen for a nominal number of
// rows, whatever rows stand beside it. Bound: tensor cores in bfloat16, [8192, 4096] x [4096, 14336] (0.96
// TFLOP) on an H100 at 650 of its 989 TFLOP/s: 1.5 ms; plain cores in float32, at 50 of 67: 19 ms.
#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "kernels/cuda/each.h"
#include "kernels/cuda/stored.h"
#include "kernels/matmul/cublas_lt.h"

namespace infalign::kernels::cuda {
namespace {

std::string described(const Product& p) {
  const auto letter = [](Transpose transpose) { return transpose == Transpose::kYes ? "T" : "N"; };
  return std::string(p.element == Precision::kFloat32 ? "float32 " : "bfloat16 ") + letter(p.transpose_a) +
         letter(p.transpose_b) + " m=" + std::to_string(p.m) + " n=" + std::to_string(p.n) +
         " k=" + std::to_string(p.k) + " lda=" + std::to_string(p.lda) + " ldb=" + std::to_string(p.ldb) +
         " ldc=" + std::to_string(p.ldc) + (p.c.stored() == Precision::kBfloat16 ? " to bfloat16" : "");
}

void check(cublasStatus_t status, const char* what, const Product& product) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("cuBLASLt: ") + what + " of " + described(product) + ": " +
                           cublasLtGetStatusString(status));
}

/// What decides which algorithm a product runs.
struct Kind {
  Precision element, result;
  Transpose transpose_a, transpose_b;
  std::int64_t m, n, k, lda, ldb, ldc;
  float beta;
  bool is_biased;
  std::uint32_t align_a, align_b, align_c;
  auto operator<=>(const Kind&) const = default;
};

cudaDataType_t type_of(Precision element) {
  return element == Precision::kFloat32 ? CUDA_R_32F : CUDA_R_16BF;
}

/// The largest power of two up to 256 that divides an address: algorithms ask for 16 to be fast.
std::uint32_t alignment(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return std::uint32_t{1} << std::min(8, std::countr_zero(address | 256));
}

/// A layout or description that the library makes and takes back.
template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { static_cast<void>(destroy(handle)); }
};
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// The library's matrices are column-major: it is asked for the transpose of c, op(b)^T op(a)^T, whose
/// matrices lie in memory as our rows do.
class Call {
 public:
  explicit Call(const Product& p) : product_(p) {
    const cudaDataType_t element = type_of(p.element);
    check(cublasLtMatmulDescCreate(&description_.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate", p);
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b);
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a);
    if (p.bias != nullptr) {  // a value for each row of the transpose
      describe(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    }
    const bool a_turned = p.transpose_a == Transpose::kYes, b_turned = p.transpose_b == Transpose::kYes;
    lay_out(first_, element, b_turned ? p.k : p.n, b_turned ? p.n : p.k, p.ldb);
    lay_out(second_, element, a_turned ? p.m : p.k, a_turned ? p.k : p.m, p.lda);
    lay_out(result_, type_of(p.c.stored()), p.n, p.m, p.ldc);
  }

  cublasLtMatmulAlgo_t choose(cublasLtHandle_t library, const Kind& kind) const {
    Preference preference;
    check(cublasLtMatmulPreferenceCreate(&preference.handle), "cublasLtMatmulPreferenceCreate", product_);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(preference.handle, attribute, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute", product_);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{0});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kind.align_b);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kind.align_a);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kind.align_c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kind.align_c);
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    check(
        cublasLtMatmulAlgoGetHeuristic(library, description_.handle, first_.handle, second_.handle,
                                       result_.handle, result_.handle, preference.handle, 1, &found, &count),
        "cublasLtMatmulAlgoGetHeuristic", product_);
    if (count == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, "the choice of an algorithm", product_);
    return found.algo;
  }

  void run(cublasLtHandle_t library, const Stream& on, const cublasLtMatmulAlgo_t& algorithm) const {
    const float one = 1;
    check(cublasLtMatmul(library, description_.handle, &one, product_.b, first_.handle, product_.a,
                         second_.handle, &product_.beta, product_.c.data(), result_.handle, product_.c.data(),
                         result_.handle, &algorithm, nullptr, 0, static_cast<cudaStream_t>(on.queue())),
          "cublasLtMatmul", product_);
  }

 private:
  void set_transpose(cublasLtMatmulDescAttributes_t attribute, Transpose transpose) {
    describe(attribute, transpose == Transpose::kYes ? CUBLAS_OP_T : CUBLAS_OP_N);
  }
  template <class T>
  void describe(cublasLtMatmulDescAttributes_t attribute, T value) {
    check(cublasLtMatmulDescSetAttribute(description_.handle, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute", product_);
  }
  void lay_out(Layout& layout, cudaDataType_t element, std::int64_t rows, std::int64_t columns,
               std::int64_t stride) {
    check(cublasLtMatrixLayoutCreate(&layout.handle, element, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), stride),
          "cublasLtMatrixLayoutCreate", product_);
  }

  const Product& product_;
  Description description_;
  Layout first_, second_, result_;
};

/// The library's handle, of the process: it has one GPU.
cublasLtHandle_t library(const Product& product) {
  static const cublasLtHandle_t handle = [&] {
    cublasLtHandle_t made = nullptr;
    check(cublasLtCreate(&made), "cublasLtCreate", product);
    return made;
  }();
  return handle;
}

cublasLtMatmulAlgo_t algorithm_for(const Product& product, Nominal nominal) {
  static std::mutex lock;
  static std::map<Kind, cublasLtMatmulAlgo_t> known;
  Product asked = product;
  if (nominal.m > 0) asked.m = nominal.m;
  if (nominal.k > 0) asked.k = nominal.k;
  const Kind kind{asked.element,
                  asked.c.stored(),
                  asked.transpose_a,
                  asked.transpose_b,
                  asked.m,
                  asked.n,
                  asked.k,
                  asked.lda,
                  asked.ldb,
                  asked.ldc,
                  asked.beta,
                  asked.bias != nullptr,
                  alignment(asked.a),
                  alignment(asked.b),
                  alignment(asked.c.data())};
  const std::lock_guard guard(lock);
  auto found = known.find(kind);
  if (found == known.end()) found = known.emplace(kind, Call(asked).choose(library(asked), kind)).first;
  return found->second;
}

template <class Stored>
struct Clear {
  std::int64_t ldc;
  Stored* c;
  __device__ void operator()(std::int64_t i, std::int64_t j) const { c[i * ldc + j] = 0; }
};

}  // namespace

void multiply(const Stream& on, const Product& product, Nominal nominal) {
  if (product.m == 0 || product.n == 0) return;
  if (product.k == 0) {  // an empty sum
    if (product.beta != 0) return;
    return with_stored(product.c.stored(), [&]<class Stored>() {
      for_each_entry(on, product.m, product.n, Clear<Stored>{product.ldc, product.c.as<Stored>()});
    });
  }
  const cublasLtMatmulAlgo_t algorithm = algorithm_for(product, nominal);
  Call(product).run(library(product), on, algorithm);
}

void matmul(const Stream& on, Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n,
            std::int64_t k, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
            float* c, std::int64_t ldc) {
  multiply(on, {Precision::kFloat32, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, beta, c, ldc});
}

}  // namespace infalign::kernels::cuda
