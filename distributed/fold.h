// Element-wise reduction of untyped data, one contribution after the other. Communicators that promise a
// fixed order of additions fold in rank order with it; it is apart because more than one of them does.
#pragma once

#include "distributed/communicator.h"

namespace infalign::distributed {

/// into[i] = reduction(into[i], value[i]) for `count` elements. Integers wrap; a maximum with NaN is NaN.
void fold(Reduction reduction, Element element, std::int64_t count, const std::byte* value, std::byte* into);

}  // namespace infalign::distributed
