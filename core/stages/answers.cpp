#include "core/stages/answers.h"

#include <stdexcept>

#include "core/error.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

text::Regex compiled(const std::string& option, const std::string& pattern) {
  try {
    return text::Regex(pattern);
  } catch (const std::invalid_argument& error) {
    throw ConfigurationError(option + ": " + error.what());
  }
}

}  // namespace

Answers::Answers(const std::string& option, const std::string& pattern)
    : pattern_(compiled(option, pattern)) {}

std::optional<std::string> Answers::in(const std::string& response) const {
  std::vector<text::Span> matches;
  pattern_.find_all(response, matches);
  if (matches.empty()) return std::nullopt;
  const auto [begin, end] = matches.back();
  return response.substr(begin, end - begin);
}

std::vector<std::int64_t> Answers::numbers(std::span<const std::string> responses) const {
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < responses.size(); ++i) {
    const auto answer = in(responses[i]);
    numbers.push_back(answer ? static_cast<std::int64_t>(storage::Fingerprint().add(*answer).value() >> 1)
                             : -1 - static_cast<std::int64_t>(i));
  }
  return numbers;
}

}  // namespace infalign::stages
