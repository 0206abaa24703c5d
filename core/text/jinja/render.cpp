#include "core/text/jinja/render.h"

#include <algorithm>
#include <deque>
#include <map>

#include "core/text/jinja/lexer.h"
#include "core/text/jinja/operations.h"
#include "core/text/jinja/python_text.h"

namespace infalign::text::jinja {
namespace {

constexpr int kDeepestCall = 400;                       // calls of evaluate and run within one another
constexpr std::size_t kLongest = std::size_t{1} << 26;  // bytes of a result

/// The names of a block; those of the blocks around it are seen through it.
struct Scope {
  std::map<std::string, Value, std::less<>> names;
  const Scope* outer = nullptr;
};

/// An error that knows its line.
class LocatedError : public TemplateError {
 public:
  using TemplateError::TemplateError;
};

enum class Flow { kOn, kBreak, kContinue };

class Renderer {
 public:
  explicit Renderer(const std::vector<std::pair<std::string, Value>>& variables) {
    for (const char* function : {"dict", "namespace", "raise_exception", "range", "strftime_now"})
      root_.names[function] = Value::Function{function};
    for (const auto& [name, value] : variables) root_.names[name] = value;
  }

  std::string render(const Block& block) {
    std::string text;
    run(block, root_, text);
    return text;
  }

 private:
  class Deeper {
   public:
    explicit Deeper(int& depth) : depth_(depth) {
      if (++depth_ > kDeepestCall) throw TemplateError("calls and blocks within one another are too deep");
    }
    ~Deeper() { --depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    int& depth_;
  };

  /// Puts the line before the message of what `work` throws.
  template <class Work>
  auto located(int line, const Work& work) {
    try {
      return work();
    } catch (const LocatedError&) {
      throw;
    } catch (const RaisedByTemplate&) {
      throw;
    } catch (const TemplateError& error) {
      throw LocatedError(at_line(line, error.what()));
    }
  }

  // Statements.

  Flow run(const Block& block, Scope& scope, std::string& out) {
    const Deeper deeper(depth_);
    for (const Statement& statement : block)
      if (const Flow flow = located(statement.line, [&] { return run(statement, scope, out); });
          flow != Flow::kOn)
        return flow;
    return Flow::kOn;
  }

  Flow run(const Statement& statement, Scope& scope, std::string& out) {
    budget_.charge(kStep);
    switch (statement.kind) {
      case StatementKind::kText:
        write(statement.text, out);
        return Flow::kOn;
      case StatementKind::kOutput:
        write(written(evaluate(*statement.expressions[0], scope)), out);
        return Flow::kOn;
      case StatementKind::kIf:
        return run_if(statement, scope, out);
      case StatementKind::kFor:
        return run_for(statement, scope, out);
      case StatementKind::kSet:
        assign(statement.names, evaluate(*statement.expressions[0], scope), scope);
        return Flow::kOn;
      case StatementKind::kSetBlock:
        assign(statement.names, inner_text(statement.bodies[0], scope), scope);
        return Flow::kOn;
      case StatementKind::kMacro:
        scope.names[statement.macro->name] = statement.macro.get();
        return Flow::kOn;
      case StatementKind::kBreak:
        return Flow::kBreak;
      case StatementKind::kContinue:
        return Flow::kContinue;
      case StatementKind::kGroup:
        write(inner_text(statement.bodies[0], scope), out);
        return Flow::kOn;
    }
    return Flow::kOn;
  }

  void write(const std::string& text, std::string& out) {
    budget_.charge(text.size());
    if (out.size() + text.size() > kLongest) throw TemplateError("the text becomes longer than 64 MiB");
    out += text;
  }

  std::string written(const Value& value) {
    budget_.charge(value.extent().size);
    return to_text(value);
  }

  std::string inner_text(const Block& block, const Scope& outer) {
    Scope scope{{}, &outer};
    std::string text;
    run(block, scope, text);
    return text;
  }

  Flow run_if(const Statement& statement, Scope& scope, std::string& out) {
    std::size_t branch = 0;
    while (branch < statement.expressions.size() && !evaluate(*statement.expressions[branch], scope).truth())
      ++branch;
    return branch < statement.bodies.size() ? run(statement.bodies[branch], scope, out) : Flow::kOn;
  }

  Flow run_for(const Statement& statement, Scope& scope, std::string& out) {
    Values items = items_of(evaluate(*statement.expressions[0], scope), budget_);
    if (const auto& condition = statement.expressions[1])
      std::erase_if(items, [&](const Value& item) {
        Scope inner{{}, &scope};
        assign(statement.names, item, inner);
        return !evaluate(*condition, inner).truth();
      });
    if (items.empty()) {
      Scope inner{{}, &scope};
      return run(statement.bodies[1], inner, out);
    }
    const Value all = Value::sequence(SequenceKind::kList, std::move(items));
    for (std::size_t i = 0; i < all.sequence().items.size(); ++i) {
      Scope inner{{}, &scope};
      inner.names["loop"] = std::make_shared<const Loop>(Loop{all.shared_sequence(), i});
      assign(statement.names, all.sequence().items[i], inner);
      if (run(statement.bodies[0], inner, out) == Flow::kBreak) break;
    }
    return Flow::kOn;
  }

  void assign(const std::vector<std::string>& names, const Value& value, Scope& scope) {
    if (names.size() == 1) return assign(names[0], value, scope);
    const Values items = items_of(value, budget_);
    if (items.size() != names.size())
      throw TemplateError(std::to_string(names.size()) + " names for " + std::to_string(items.size()) +
                          " values");
    for (std::size_t i = 0; i < names.size(); ++i) assign(names[i], items[i], scope);
  }

  void assign(const std::string& name, const Value& value, Scope& scope) {
    const std::size_t dot = name.find('.');
    if (dot == std::string::npos) {
      scope.names[name] = value;
      return;
    }
    Namespace* space = look_up(std::string_view(name).substr(0, dot), scope).name_space();
    if (!space) throw TemplateError("'" + name.substr(0, dot) + "' is no namespace");
    put(*space, name.substr(dot + 1), value);
  }

  void put(Namespace& space, const std::string& name, const Value& value) {
    if (name.starts_with('_'))
      throw TemplateError("a namespace takes no names with '_' in front, such as '" + name + "'");
    budget_.charge(space.entries.size());
    const auto entry =
        std::ranges::find_if(space.entries, [&](const auto& one) { return one.first == name; });
    if (entry == space.entries.end()) {
      space.entries.emplace_back(name, value);
    } else {
      entry->second = value;
    }
  }

  // Expressions.

  Value look_up(std::string_view name, const Scope& scope) const {
    for (const Scope* at = &scope; at; at = at->outer)
      if (const auto found = at->names.find(name); found != at->names.end()) return found->second;
    for (const char* special : {"caller", "cycler", "joiner", "kwargs", "lipsum", "self", "varargs"})
      if (name == special) throw TemplateError("'" + std::string(name) + "' is not supported");
    return Value::undefined("'" + std::string(name) + "' is undefined");
  }

  Value evaluate(const Expression& expression, const Scope& scope) {
    const Deeper deeper(depth_);
    budget_.charge(kStep);
    return located(expression.line, [&] { return evaluated(expression, scope); });
  }

  Value evaluate_or_none(const ExpressionPtr& expression, const Scope& scope) {
    return expression ? evaluate(*expression, scope) : Value();
  }

  Value evaluated(const Expression& e, const Scope& scope) {
    const auto part = [&](std::size_t i) { return evaluate(*e.parts[i], scope); };
    switch (e.kind) {
      case ExpressionKind::kConstant:
        return e.constant;
      case ExpressionKind::kName:
        return look_up(e.name, scope);
      case ExpressionKind::kList:
        return Value::sequence(SequenceKind::kList, all_parts(e, 0, scope));
      case ExpressionKind::kTuple:
        return Value::sequence(SequenceKind::kTuple, all_parts(e, 0, scope));
      case ExpressionKind::kDictionary:
        return dictionary(e, scope);
      case ExpressionKind::kAttribute:
        return attribute(part(0), e.name, budget_);
      case ExpressionKind::kItem: {
        const Value value = part(0);
        return item(value, part(1), budget_);
      }
      case ExpressionKind::kSlice: {
        const Value value = part(0);
        return slice(value, evaluate_or_none(e.parts[1], scope), evaluate_or_none(e.parts[2], scope),
                     evaluate_or_none(e.parts[3], scope), budget_);
      }
      case ExpressionKind::kCall:
        return call(e, scope);
      case ExpressionKind::kFilter: {
        const Value value = part(0);
        return apply_filter(e.name, value, arguments(e, scope), budget_);
      }
      case ExpressionKind::kTest: {
        const Value value = part(0);
        return apply_test(e.name, value, arguments(e, scope), budget_);
      }
      case ExpressionKind::kNot:
        return !part(0).truth();
      case ExpressionKind::kNegative:
        return negative(part(0));
      case ExpressionKind::kPositive: {
        Value value = part(0);
        if (!value.is_number()) throw TemplateError("'+' before " + value.kind());
        return value;
      }
      case ExpressionKind::kArithmetic: {
        const Value left = part(0);
        return arithmetic(e.name, left, part(1), budget_);
      }
      case ExpressionKind::kComparison:
        return comparison(e, scope);
      case ExpressionKind::kAnd: {
        Value left = part(0);
        return left.truth() ? part(1) : left;
      }
      case ExpressionKind::kOr: {
        Value left = part(0);
        return left.truth() ? left : part(1);
      }
      case ExpressionKind::kConditional:
        if (part(1).truth()) return part(0);
        return e.parts[2] ? part(2) : Value::undefined("the 'if' without an 'else' was not true");
    }
    return {};
  }

  Values all_parts(const Expression& e, std::size_t from, const Scope& scope) {
    Values values;
    for (std::size_t i = from; i < e.parts.size(); ++i) values.push_back(evaluate(*e.parts[i], scope));
    return values;
  }

  std::vector<std::pair<std::string, Value>> named(const Expression& e, const Scope& scope) {
    std::vector<std::pair<std::string, Value>> values;
    for (const auto& [name, expression] : e.named) values.emplace_back(name, evaluate(*expression, scope));
    return values;
  }

  Arguments arguments(const Expression& e, const Scope& scope) {
    Values positional = all_parts(e, 1, scope);
    return {std::move(positional), named(e, scope)};
  }

  Value dictionary(const Expression& e, const Scope& scope) {
    Values parts = all_parts(e, 0, scope);
    std::vector<std::pair<Value, Value>> entries;
    for (std::size_t i = 0; i < parts.size(); i += 2)
      entries.emplace_back(std::move(parts[i]), std::move(parts[i + 1]));
    return Value::dictionary(entries);
  }

  Value comparison(const Expression& e, const Scope& scope) {
    Value left = evaluate(*e.parts[0], scope);
    for (std::size_t i = 0; i < e.operators.size(); ++i) {
      Value right = evaluate(*e.parts[i + 1], scope);
      if (!compare(e.operators[i], left, right, budget_)) return false;
      left = std::move(right);
    }
    return true;
  }

  Value call(const Expression& e, const Scope& scope) {
    const Expression& callee = *e.parts[0];
    if (callee.kind == ExpressionKind::kAttribute) {
      const Value receiver = evaluate(*callee.parts[0], scope);
      const Value member = attribute(receiver, callee.name, budget_);
      if (!member.macro() && !member.function())
        return call_method(receiver, callee.name, arguments(e, scope), budget_);
      return call_value(member, arguments(e, scope));
    }
    const Value value = evaluate(callee, scope);
    return call_value(value, arguments(e, scope));
  }

  Value call_value(const Value& callee, const Arguments& arguments) {
    if (callee.is_undefined()) throw TemplateError(callee.undefined_because());
    if (const Macro* macro = callee.macro()) return call_macro(*macro, arguments);
    if (!callee.function()) throw TemplateError(callee.kind() + " cannot be called");
    const std::string_view name = callee.function()->name;
    if (name == "namespace") return make_namespace(arguments);
    if (name == "dict") return make_dictionary(arguments);
    if (name == "range") return range(arguments);
    if (name == "raise_exception")
      throw RaisedByTemplate(to_text(arguments.only({"message"}).get("message")));
    throw TemplateError("strftime_now would make the text depend on the day; it is not supported");
  }

  Value call_macro(const Macro& macro, const Arguments& arguments) {
    Scope scope{{}, &root_};
    if (arguments.positional().size() > macro.parameters.size())
      throw TemplateError("macro '" + macro.name + "' takes at most " +
                          std::to_string(macro.parameters.size()) + " arguments");
    for (const auto& [name, value] : arguments.named()) {
      const auto place = std::ranges::find_if(macro.parameters,
                                              [&name = name](const auto& one) { return one.first == name; });
      if (place == macro.parameters.end() ||
          place - macro.parameters.begin() < static_cast<std::ptrdiff_t>(arguments.positional().size()))
        throw TemplateError("macro '" + macro.name + "': the argument '" + name +
                            "' is unknown or given twice");
    }
    for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& [name, otherwise] = macro.parameters[i];
      const auto entry = std::ranges::find_if(arguments.named(),
                                              [&name = name](const auto& one) { return one.first == name; });
      Value value = i < arguments.positional().size()  ? arguments.positional()[i]
                    : entry != arguments.named().end() ? entry->second
                    : otherwise                        ? evaluate(*otherwise, scope)
                                : Value::undefined("parameter '" + name + "' was not provided");
      scope.names[name] = std::move(value);
    }
    std::string text;
    run(macro.body, scope, text);
    return text;
  }

  Value make_namespace(const Arguments& arguments) {
    if (!arguments.positional().empty()) throw TemplateError("namespace() takes arguments with names");
    Namespace& space = namespaces_.emplace_back();
    for (const auto& [name, value] : arguments.named()) put(space, name, value);
    return &space;
  }

  Value make_dictionary(const Arguments& arguments) {
    if (!arguments.positional().empty()) throw TemplateError("dict() takes arguments with names");
    std::vector<std::pair<Value, Value>> entries;
    for (const auto& [name, value] : arguments.named()) entries.emplace_back(name, value);
    return Value::dictionary(entries);
  }

  Value range(const Arguments& arguments) {
    const bool has_start = arguments.positional().size() > 1;
    has_start ? arguments.only({"start", "stop", "step"}) : arguments.only({"stop"});
    arguments.get("stop");
    const std::int64_t start = has_start ? arguments.integer("start", 0) : 0;
    const std::int64_t stop = arguments.integer("stop", 0),
                       step = has_start ? arguments.integer("step", 1) : 1;
    if (step == 0) throw TemplateError("the step of range() is 0");
    Values numbers;
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
      budget_.charge(sizeof(Value));
      if (numbers.size() == 100'000) throw TemplateError("range() gives more than 100000 numbers");
      numbers.emplace_back(i);
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return Value::sequence(SequenceKind::kView, std::move(numbers));
  }

  static constexpr std::size_t kStep = 64;  // units of the budget

  std::deque<Namespace> namespaces_;  // before the names, which may point at them
  Scope root_;
  Budget budget_;
  int depth_ = 0;
};

}  // namespace

std::string render(const Block& block, const std::vector<std::pair<std::string, Value>>& variables) {
  return Renderer(variables).render(block);
}

}  // namespace infalign::text::jinja
