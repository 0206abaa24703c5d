#include "distributed/fold.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace infalign::distributed {
namespace {

template <class T>
T larger(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a)) return a;
    if (std::isnan(b)) return b;
  }
  return std::max(a, b);
}

template <class T>
T sum(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

template <class T>
void fold_as(Reduction reduction, std::int64_t count, const std::byte* value_bytes, std::byte* into_bytes) {
  const auto* value = reinterpret_cast<const T*>(value_bytes);
  auto* into = reinterpret_cast<T*>(into_bytes);
  if (reduction == Reduction::kSum) {
    for (std::int64_t i = 0; i < count; ++i) into[i] = sum(into[i], value[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) into[i] = larger(into[i], value[i]);
  }
}

}  // namespace

void fold(Reduction reduction, Element element, std::int64_t count, const std::byte* value, std::byte* into) {
  switch (element) {
    case Element::kByte:
    case Element::kBfloat16:
      throw std::invalid_argument("fold: bytes and bfloat16 have no sum and no maximum here");
    case Element::kFloat32:
      return fold_as<float>(reduction, count, value, into);
    case Element::kFloat64:
      return fold_as<double>(reduction, count, value, into);
    case Element::kInt64:
      return fold_as<std::int64_t>(reduction, count, value, into);
    case Element::kUint64:
      return fold_as<std::uint64_t>(reduction, count, value, into);
  }
}

}  // namespace infalign::distributed
