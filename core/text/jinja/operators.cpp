#include <algorithm>
#include <cmath>

#include "core/text/jinja/operations.h"
#include "core/text/jinja/python_text.h"
#include "core/text/utf8.h"

namespace infalign::text::jinja {
namespace {

[[noreturn]] void refuse_operands(std::string_view sign, const Value& left, const Value& right) {
  for (const Value* value : {&left, &right})
    if (value->is_undefined()) throw TemplateError(value->undefined_because());
  throw TemplateError("'" + std::string(sign) + "' between " + left.kind() + " and " + right.kind() +
                      " is not supported");
}

bool is_plain_sequence(const Value& value) {
  return value.is_sequence() &&
         (value.sequence().kind == SequenceKind::kList || value.sequence().kind == SequenceKind::kTuple);
}

std::int64_t whole_arithmetic(std::string_view sign, std::int64_t left, std::int64_t right) {
  std::int64_t result = 0;
  bool overflows = false;
  if (sign == "+") overflows = __builtin_add_overflow(left, right, &result);
  if (sign == "-") overflows = __builtin_sub_overflow(left, right, &result);
  if (sign == "*") overflows = __builtin_mul_overflow(left, right, &result);
  if (sign == "//" || sign == "%") {
    if (right == 0) throw TemplateError("division by zero");
    if (right == -1) return sign == "%" ? 0 : whole_arithmetic("-", 0, left);
    const std::int64_t rest = left % right;
    const bool differs = rest != 0 && (rest < 0) != (right < 0);  // Python rounds down, C++ towards zero
    result = sign == "%" ? rest + (differs ? right : 0) : left / right - (differs ? 1 : 0);
  }
  if (sign == "**") {
    result = 1;
    for (std::int64_t i = 0; i < right && !overflows && result != 0; ++i) {
      if (i > 64 && (left == 1 || left == -1)) return right % 2 == 0 ? 1 : left;
      overflows = __builtin_mul_overflow(result, left, &result);
    }
  }
  if (overflows) throw TemplateError("a whole number beyond 64 bits");
  return result;
}

Value number_arithmetic(std::string_view sign, const Value& left, const Value& right) {
  const bool whole = !left.is_float() && !right.is_float();
  if (sign == "/") {
    if (right.floating() == 0) throw TemplateError("division by zero");
    return left.floating() / right.floating();
  }
  if (whole && !(sign == "**" && right.integer() < 0))
    return whole_arithmetic(sign, left.integer(), right.integer());
  if (sign == "+") return left.floating() + right.floating();
  if (sign == "-") return left.floating() - right.floating();
  if (sign == "*") return left.floating() * right.floating();
  refuse_operands(sign, left, right);
}

Value repeated(const Value& value, std::int64_t times, Budget& budget) {
  const std::size_t size =
      value.is_string() ? value.string().size() : value.sequence().items.size() * sizeof(Value);
  const auto count = static_cast<std::size_t>(std::max<std::int64_t>(0, times));
  std::size_t whole = 0;
  if (__builtin_mul_overflow(size, count, &whole) || whole > kLargestValue)
    throw TemplateError("a value is larger than 64 MiB");
  budget.charge(whole);
  if (size == 0) return value;
  if (value.is_string()) {
    std::string text;
    text.reserve(whole);
    for (std::size_t i = 0; i < count; ++i) text += value.string();
    return text;
  }
  Values items;
  for (std::size_t i = 0; i < count; ++i)
    items.insert(items.end(), value.sequence().items.begin(), value.sequence().items.end());
  return Value::sequence(value.sequence().kind, std::move(items));
}

Value concatenated(const Sequence& left, const Sequence& right, Budget& budget) {
  budget.charge((left.items.size() + right.items.size()) * sizeof(Value));
  Values items = left.items;
  items.insert(items.end(), right.items.begin(), right.items.end());
  return Value::sequence(left.kind, std::move(items));
}

bool less(std::string_view sign, const Value& left, const Value& right) {
  if (left.is_string() && right.is_string()) return left.string() < right.string();
  if (!left.is_number() || !right.is_number()) refuse_operands(sign, left, right);
  if (left.is_float() || right.is_float()) return left.floating() < right.floating();
  return left.integer() < right.integer();
}

bool not_a_number(const Value& value) { return value.is_float() && std::isnan(value.floating()); }

bool contains(const Value& whole, const Value& part, Budget& budget) {
  budget.charge(whole.is_dictionary() ? whole.dictionary().entries.size() : whole.extent().size);
  if (whole.is_string()) {
    if (!part.is_string()) refuse_operands("in", part, whole);
    return find_in(whole.string(), part.string()) != std::string::npos;
  }
  if (whole.is_dictionary()) return whole.dictionary().find(part) != nullptr;
  if (whole.is_undefined()) return false;
  if (!whole.is_sequence()) refuse_operands("in", part, whole);
  return std::ranges::any_of(items_of(whole, budget), [&](const Value& one) { return one == part; });
}

Values characters_of(std::string_view text, Budget& budget) {
  budget.charge(text.size() * sizeof(Value));
  Values characters;
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t length = code_point_at(text, offset).length;
    characters.emplace_back(text.substr(offset, length));
    offset += length;
  }
  return characters;
}

/// Python's bounds of a slice within `length` items.
struct Bounds {
  std::int64_t start, stop, step;
};

std::int64_t whole_number(const Value& value) {
  if (value.is_float() || !value.is_number())
    throw TemplateError("a slice needs whole numbers, not " + value.kind());
  return value.integer();
}

std::int64_t bound_of(const Value& value, std::int64_t otherwise, std::int64_t length, bool backwards) {
  if (value.is_none()) return otherwise;
  std::int64_t bound = whole_number(value);
  if (bound < 0) bound = std::max(bound + length, backwards ? std::int64_t{-1} : std::int64_t{0});
  return std::min(bound, backwards ? length - 1 : length);
}

Bounds bounds_of(const Value& start, const Value& stop, const Value& step, std::int64_t length) {
  const std::int64_t by = step.is_none() ? 1 : whole_number(step);
  if (by == 0) throw TemplateError("the step of a slice is 0");
  const bool backwards = by < 0;
  return {bound_of(start, backwards ? length - 1 : 0, length, backwards),
          bound_of(stop, backwards ? -1 : length, length, backwards), by};
}

template <class Visit>
void for_each_index(const Bounds& bounds, const Visit& visit) {
  for (std::int64_t i = bounds.start; bounds.step > 0 ? i < bounds.stop : i > bounds.stop;) {
    visit(static_cast<std::size_t>(i));
    if (__builtin_add_overflow(i, bounds.step, &i)) break;
  }
}

Value item_at(const Value& value, std::int64_t index, Budget& budget) {
  const bool is_string = value.is_string();
  if (is_string) budget.charge(value.string().size());
  const std::int64_t length =
      is_string ? length_of(value.string()) : static_cast<std::int64_t>(value.sequence().items.size());
  if (index < 0) index += length;
  if (index < 0 || index >= length)
    return Value::undefined(value.kind() + " has no element " + std::to_string(index));
  if (!is_string) return value.sequence().items[static_cast<std::size_t>(index)];
  const std::size_t offset = offset_of(value.string(), index);
  return value.string().substr(offset, code_point_at(value.string(), offset).length);
}

}  // namespace

Value arithmetic(std::string_view sign, const Value& left, const Value& right, Budget& budget) {
  if (sign == "~" || (sign == "+" && left.is_string() && right.is_string())) {
    budget.charge(left.extent().size + right.extent().size);
    return to_text(left) + to_text(right);
  }
  if (left.is_number() && right.is_number()) return number_arithmetic(sign, left, right);
  if (sign == "+" && is_plain_sequence(left) && is_plain_sequence(right) &&
      left.sequence().kind == right.sequence().kind)
    return concatenated(left.sequence(), right.sequence(), budget);
  if (sign == "*" && right.is_integer() && (left.is_string() || is_plain_sequence(left)))
    return repeated(left, right.integer(), budget);
  if (sign == "*" && left.is_integer() && (right.is_string() || is_plain_sequence(right)))
    return repeated(right, left.integer(), budget);
  refuse_operands(sign, left, right);
}

Value negative(const Value& value) {
  if (value.is_float()) return -value.floating();
  if (!value.is_number()) throw TemplateError("'-' before " + value.kind());
  return whole_arithmetic("-", 0, value.integer());
}

bool compare(std::string_view sign, const Value& left, const Value& right, Budget& budget) {
  if (sign == "in") return contains(right, left, budget);
  if (sign == "not in") return !contains(right, left, budget);
  budget.charge(std::min(left.extent().size, right.extent().size));
  if (sign == "==") return left == right;
  if (sign == "!=") return !(left == right);
  if (not_a_number(left) || not_a_number(right)) return false;
  if (sign == "<") return less(sign, left, right);
  if (sign == ">") return less(sign, right, left);
  return sign == "<=" ? !less(sign, right, left) : !less(sign, left, right);
}

Values items_of(const Value& value, Budget& budget) {
  if (value.is_undefined()) return {};
  if (value.is_string()) return characters_of(value.string(), budget);
  if (value.is_dictionary()) {
    Values keys;
    for (const auto& [key, unused] : value.dictionary().entries) keys.push_back(key);
    budget.charge(keys.size() * sizeof(Value));
    return keys;
  }
  if (!value.is_sequence()) throw TemplateError(value.kind() + " cannot be iterated");
  const Sequence& sequence = value.sequence();
  if (sequence.kind == SequenceKind::kGenerator && std::exchange(sequence.spent, true))
    throw TemplateError("a generator is used twice (put `| list` behind it)");
  budget.charge(sequence.items.size() * sizeof(Value));
  return sequence.items;
}

Value item(const Value& value, const Value& key, Budget& budget) {
  if (value.is_undefined()) throw TemplateError(value.undefined_because());
  if (value.is_dictionary()) {
    budget.charge(value.dictionary().entries.size());
    if (const Value* found = value.dictionary().find(key)) return *found;
  }
  const bool has_order = value.is_string() || is_plain_sequence(value);
  if (has_order && key.is_number() && !key.is_float()) return item_at(value, key.integer(), budget);
  if (key.is_string()) return attribute(value, key.string(), budget);
  if (value.is_sequence() && !has_order) throw TemplateError(value.kind() + " has no items by number");
  return Value::undefined(value.kind() + " has no such element");
}

Value slice(const Value& value, const Value& start, const Value& stop, const Value& step, Budget& budget) {
  if (value.is_undefined()) throw TemplateError(value.undefined_because());
  if (!value.is_string() && !is_plain_sequence(value)) throw TemplateError("a slice of " + value.kind());
  if (value.is_string() && (step.is_none() || step == Value(std::int64_t{1}))) {
    const std::string& text = value.string();
    budget.charge(text.size());
    const Bounds bounds = bounds_of(start, stop, {}, length_of(text));
    if (bounds.start >= bounds.stop) return "";
    const std::size_t begin = offset_of(text, bounds.start);
    return text.substr(begin, offset_of(std::string_view(text).substr(begin), bounds.stop - bounds.start));
  }
  const Values items = items_of(value, budget);
  const Bounds bounds = bounds_of(start, stop, step, static_cast<std::int64_t>(items.size()));
  Values chosen;
  for_each_index(bounds, [&](std::size_t i) { chosen.push_back(items[i]); });
  if (!value.is_string()) return Value::sequence(value.sequence().kind, std::move(chosen));
  std::string text;
  for (const Value& character : chosen) text += character.string();
  return text;
}

}  // namespace infalign::text::jinja
