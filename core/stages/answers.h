// What is voted on: the answer in a response, found by a regular expression. Training, evaluation and
// `generate` find it here, so that all of them count the same votes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/text/tokenizer/regex.h"

namespace infalign::stages {

class Answers {
 public:
  /// `option` is what errors name: "inference.answer". Errors: ConfigurationError for a malformed pattern.
  Answers(const std::string& option, const std::string& pattern);

  /// The last match in the response, if there is any.
  std::optional<std::string> in(const std::string& response) const;
  /// Equal numbers for equal answers, whatever they were found with. A response without an answer agrees with
  /// no other of `responses`.
  std::vector<std::int64_t> numbers(std::span<const std::string> responses) const;

 private:
  text::Regex pattern_;
};

}  // namespace infalign::stages
