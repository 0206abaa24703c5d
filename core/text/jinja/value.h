// What a chat template computes with: Python's None, booleans, whole numbers, floats, strings, sequences and
// dictionaries, and Jinja's undefined. Values are immutable but for namespaces and cheap to copy; sequences
// and dictionaries know how deeply they nest and how much they would be written out, so that no value can be
// built that is too deep or too large to be walked, whatever it shares with others.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/json/forward.h"

namespace infalign::text::jinja {

/// What a template does that cannot be rendered; whoever knows the line puts it before the message.
class TemplateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What the template itself refuses, by raise_exception.
class RaisedByTemplate : public TemplateError {
 public:
  using TemplateError::TemplateError;
};

class Value;
struct Macro;

inline constexpr std::size_t kLargestValue = std::size_t{1} << 26;  // bytes of a value written out

enum class SequenceKind {
  kList,
  kTuple,
  kView,       // what dict.items() and range() give: to be iterated and counted
  kGenerator,  // what filters such as `map` give: to be iterated, no more
};

/// How deep a value nests, and about how many bytes it is when written out.
struct Extent {
  int depth = 0;
  std::size_t size = 0;
};

struct Sequence {
  SequenceKind kind;
  std::vector<Value> items;
  Extent extent;
  mutable bool spent = false;  // of a generator: it was iterated, which goes once
};

struct Dictionary {
  std::vector<std::pair<Value, Value>> entries;  // in order of insertion; keys are scalars
  Extent extent;

  const Value* find(const Value& key) const;
};

/// `namespace(...)`: the one thing a template can write into. Owned by the rendering, which outlives all
/// values.
struct Namespace {
  std::vector<std::pair<std::string, Value>> entries;
};

/// `loop` within a for.
struct Loop {
  std::shared_ptr<const Sequence> items;
  std::size_t index = 0;
};

class Value {
 public:
  struct Undefined {
    std::string what;  // for messages: "'name' is undefined"
  };
  struct None {};
  struct Method {
    std::string name;  // a method that is not called: it is only known that it is there
  };
  struct Function {
    std::string_view name;  // of kFunctions
  };

  Value() : holds_(None()) {}
  Value(bool value) : holds_(value) {}  // NOLINT(google-explicit-constructor): values stand for values
  Value(std::int64_t value) : holds_(value) {}
  Value(double value) : holds_(value) {}
  Value(std::string value);  // Errors: TemplateError if it is larger than kLargestValue
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char* value) : Value(std::string(value)) {}
  Value(Namespace* value) : holds_(value) {}
  Value(const Macro* value) : holds_(value) {}
  Value(std::shared_ptr<const Loop> value) : holds_(std::move(value)) {}
  Value(Method value) : holds_(std::move(value)) {}
  Value(Function value) : holds_(value) {}

  static Value undefined(std::string what);
  /// Errors: TemplateError if it nests too deeply or is too large.
  static Value sequence(SequenceKind kind, std::vector<Value> items);
  /// Later entries replace earlier ones of the same key. Errors: TemplateError if it nests too deeply, is too
  /// large (more than 1000 keys), or a key is no scalar.
  static Value dictionary(const std::vector<std::pair<Value, Value>>& entries);
  /// Errors: TemplateError for whole numbers beyond 64 bits, or if it nests too deeply.
  static Value from_json(const OrderedJson& json);

  bool is_undefined() const { return std::holds_alternative<Undefined>(holds_); }
  bool is_none() const { return std::holds_alternative<None>(holds_); }
  bool is_bool() const { return std::holds_alternative<bool>(holds_); }
  bool is_float() const { return std::holds_alternative<double>(holds_); }
  bool is_integer() const { return std::holds_alternative<std::int64_t>(holds_); }
  bool is_number() const { return is_bool() || is_integer() || is_float(); }
  bool is_string() const { return std::holds_alternative<Text>(holds_); }
  bool is_sequence() const { return std::holds_alternative<Items>(holds_); }
  bool is_dictionary() const { return std::holds_alternative<Entries>(holds_); }
  bool is_generator() const { return is_sequence() && sequence().kind == SequenceKind::kGenerator; }

  /// The content; only where the kind is known.
  const std::string& string() const { return *std::get<Text>(holds_); }
  const Sequence& sequence() const { return *std::get<Items>(holds_); }
  const std::shared_ptr<const Sequence>& shared_sequence() const { return std::get<Items>(holds_); }
  const Dictionary& dictionary() const { return *std::get<Entries>(holds_); }
  double floating() const;        // of any number
  std::int64_t integer() const;   // of a whole number or bool
  Namespace* name_space() const;  // nullptr: another kind
  const Macro* macro() const;     // nullptr: another kind
  const Loop* loop() const;       // nullptr: another kind
  const Function* function() const { return std::get_if<Function>(&holds_); }
  const std::string& undefined_because() const { return std::get<Undefined>(holds_).what; }

  /// What messages call its kind: "a string", "a list".
  std::string kind() const;

  /// Python's truth. Errors: TemplateError for a generator, which Python takes for true whatever it holds.
  bool truth() const;

  /// Python's ==.
  bool operator==(const Value& other) const;

  Extent extent() const;

 private:
  using Text = std::shared_ptr<const std::string>;
  using Items = std::shared_ptr<const Sequence>;
  using Entries = std::shared_ptr<const Dictionary>;

  std::variant<None, Undefined, bool, std::int64_t, double, Text, Items, Entries, Namespace*, const Macro*,
               std::shared_ptr<const Loop>, Method, Function>
      holds_;
};

using Values = std::vector<Value>;

}  // namespace infalign::text::jinja
