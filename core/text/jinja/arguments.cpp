#include <algorithm>

#include "core/text/jinja/operations.h"
#include "core/text/jinja/python_text.h"

namespace infalign::text::jinja {

const Arguments& Arguments::only(std::initializer_list<std::string_view> names) const {
  names_ = names;
  if (positional_.size() > names_.size())
    throw TemplateError("takes at most " + std::to_string(names_.size()) + " arguments, not " +
                        std::to_string(positional_.size()));
  for (const auto& [name, value] : named_) {
    const auto place = std::ranges::find(names_, std::string_view(name));
    if (place == names_.end()) throw TemplateError("the argument '" + name + "' is not supported");
    if (static_cast<std::size_t>(place - names_.begin()) < positional_.size())
      throw TemplateError("the argument '" + name + "' is given twice");
  }
  return *this;
}

std::optional<Value> Arguments::find(std::string_view name) const {
  const auto place = static_cast<std::size_t>(std::ranges::find(names_, name) - names_.begin());
  if (place < positional_.size()) return positional_[place];
  const auto entry = std::ranges::find_if(named_, [&](const auto& one) { return one.first == name; });
  return entry == named_.end() ? std::nullopt : std::optional(entry->second);
}

Value Arguments::get(std::string_view name) const {
  if (auto value = find(name)) return *value;
  throw TemplateError("the argument '" + std::string(name) + "' is missing");
}

std::string Arguments::text(std::string_view name) const {
  const Value value = get(name);
  if (!value.is_string())
    throw TemplateError("the argument '" + std::string(name) + "' must be a string, not " + value.kind());
  return value.string();
}

std::int64_t Arguments::integer(std::string_view name, std::int64_t otherwise) const {
  const auto value = find(name);
  if (!value) return otherwise;
  if (!value->is_integer())
    throw TemplateError("the argument '" + std::string(name) + "' must be a whole number, not " +
                        value->kind());
  return value->integer();
}

bool Arguments::flag(std::string_view name) const {
  const auto value = find(name);
  return value && value->truth();
}

Arguments Arguments::behind(std::size_t count) const {
  const auto first = positional_.begin() + static_cast<std::ptrdiff_t>(std::min(count, positional_.size()));
  return {Values(first, positional_.end()), named_};
}

}  // namespace infalign::text::jinja
