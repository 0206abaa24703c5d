// The "model" of tokenizer.json: from pieces of text to ids. A model is a vocabulary and a function; to add a
// kind is to add a line to the table in model.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/pieces.h"
#include "core/text/tokenizer/vocabulary.h"

namespace infalign::text {

struct Model {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::function<void(const Pieces& pieces, std::vector<std::int32_t>& ids)> encode;  // appends the ids
};

/// Errors: InputError naming file and construct.
Model build_model(const Json& part, const std::string& file);

}  // namespace infalign::text
