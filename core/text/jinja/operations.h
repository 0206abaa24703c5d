// What expressions of a template do with values, as Python and Jinja do it: operators, items and slices,
// methods, filters and tests. Each is a table from a name to a function; whatever is in none of them is
// refused by its name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/jinja/value.h"

namespace infalign::text::jinja {

/// Bounds what one rendering may do, whatever the template: about a byte touched or made is a unit.
class Budget {
 public:
  /// Errors: TemplateError once there is nothing left.
  void charge(std::size_t units) {
    if (units > left_)
      throw TemplateError("the template does too much work: it would not end, or write without end");
    left_ -= units;
  }

 private:
  std::size_t left_ = std::size_t{1} << 28;
};

/// The arguments of a call, read by place or name.
class Arguments {
 public:
  Arguments() = default;
  Arguments(Values positional, std::vector<std::pair<std::string, Value>> named)
      : positional_(std::move(positional)), named_(std::move(named)) {}

  const Values& positional() const { return positional_; }
  const std::vector<std::pair<std::string, Value>>& named() const { return named_; }

  /// Refuses arguments that are none of `names`, in the order of their places.
  const Arguments& only(std::initializer_list<std::string_view> names) const;

  /// After only(): the argument, or nullopt.
  std::optional<Value> find(std::string_view name) const;
  Value get(std::string_view name) const;  // refuses its absence
  std::string text(std::string_view name) const;
  std::int64_t integer(std::string_view name, std::int64_t otherwise) const;
  bool flag(std::string_view name) const;  // false without it

  /// The arguments behind the first `count`.
  Arguments behind(std::size_t count) const;

 private:
  Values positional_;
  std::vector<std::pair<std::string, Value>> named_;
  mutable std::vector<std::string_view> names_;  // of the last only()
};

/// left `sign` right; sign is + - * / // % ** or ~. Errors, here and below: TemplateError.
Value arithmetic(std::string_view sign, const Value& left, const Value& right, Budget& budget);
Value negative(const Value& value);

/// left `sign` right; sign is == != < <= > >= in or "not in".
bool compare(std::string_view sign, const Value& left, const Value& right, Budget& budget);

/// What iterating gives. A generator is spent by it.
Values items_of(const Value& value, Budget& budget);

Value item(const Value& value, const Value& key, Budget& budget);
Value attribute(const Value& value, const std::string& name, Budget& budget);

/// value[start:stop:step], each of them none where it is not given.
Value slice(const Value& value, const Value& start, const Value& stop, const Value& step, Budget& budget);

Value call_method(const Value& receiver, const std::string& name, const Arguments& arguments, Budget& budget);
Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget);
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget);

}  // namespace infalign::text::jinja
