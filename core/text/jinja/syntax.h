// A template as a tree. A node is small and of one type, its kind says what its parts mean; trees know their
// height and are refused when too high, so that walking them is safe on any stack.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/value.h"

namespace infalign::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind {
  kConstant,     // constant
  kName,         // name
  kList,         // parts
  kTuple,        // parts
  kDictionary,   // parts: key, value, key, value ...
  kAttribute,    // parts[0].name
  kItem,         // parts[0][parts[1]]
  kSlice,        // parts[0][parts[1]:parts[2]:parts[3]], each of the last three perhaps nullptr
  kCall,         // parts[0](parts[1], ..., named)
  kFilter,       // parts[0] | name(parts[1], ..., named)
  kTest,         // parts[0] is name(parts[1], ...)
  kNot,          // not parts[0]
  kNegative,     // -parts[0]
  kPositive,     // +parts[0]
  kArithmetic,   // parts[0] name parts[1]; name is + - * / // % ** or ~
  kComparison,   // parts[0] operators[0] parts[1] operators[1] parts[2] ...
  kAnd,          // parts[0] and parts[1]
  kOr,           // parts[0] or parts[1]
  kConditional,  // parts[0] if parts[1] else parts[2], the last perhaps nullptr
};

struct Expression {
  ExpressionKind kind;
  int line;
  int height = 1;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> parts;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;  // of a comparison: == != < <= > >= in "not in"
};

struct Statement;
using Block = std::vector<Statement>;

enum class StatementKind {
  kText,      // text
  kOutput,    // expressions[0]
  kIf,        // bodies[i] where expressions[i] is the first that is true; one more body: else
  kFor,       // names in expressions[0] (if expressions[1]): bodies[0], bodies[1] if there was none
  kSet,       // names = expressions[0]
  kSetBlock,  // names[0] = what bodies[0] writes, through the filters of expressions[0] if there is one
  kMacro,     // text: its name
  kBreak,
  kContinue,
  kGroup,  // bodies[0]: {% generation %}, which marks what a model learns from and writes nothing itself
};

struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // with their defaults, perhaps nullptr
  Block body;
};

struct Statement {
  StatementKind kind;
  int line;
  std::string text;
  std::vector<std::string> names;  // "name", or "name.attribute" of a namespace
  std::vector<ExpressionPtr> expressions;
  std::vector<Block> bodies;
  std::unique_ptr<Macro> macro;
};

/// Errors: TemplateError "line N: ..." that names the construct.
Block parse(std::string_view source);

}  // namespace infalign::text::jinja
