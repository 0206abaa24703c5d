// The "post_processor" of tokenizer.json: the special tokens put around the ids of a text. All constructs
// come down to ids before and ids after, so that is what is kept.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/text/tokenizer/construct.h"

namespace infalign::text {

struct Frame {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};

/// Errors: InputError naming file and construct.
Frame build_frame(const Json& part, const std::string& file);

}  // namespace infalign::text
