#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "core/text/jinja/lexer.h"
#include "core/text/jinja/syntax.h"

namespace infalign::text::jinja {
namespace {

constexpr int kHighest = 200;

/// Names that would be read as something else.
constexpr std::array kReserved = {"true", "false", "none", "True", "False", "None", "and",
                                  "or",   "not",   "in",   "is",   "if",    "else", "loop"};

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Block parse_template() && { return parse_block({}); }

 private:
  const Token& here() const { return tokens_[position_]; }
  const Token& ahead() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  const Token& next() { return here().kind == TokenKind::kEnd ? here() : tokens_[position_++]; }

  [[noreturn]] void fail(const std::string& why) const { throw TemplateError(at_line(here().line, why)); }

  static std::string shown(const Token& token) {
    switch (token.kind) {
      case TokenKind::kEnd:
        return "the end of the template";
      case TokenKind::kText:
      case TokenKind::kOutputBegin:
      case TokenKind::kBlockBegin:
      case TokenKind::kOutputEnd:
      case TokenKind::kBlockEnd:
        return "the end of the tag";
      default:
        return "'" + token.text + "'";
    }
  }

  static bool is(const Token& token, TokenKind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }
  bool at_operator(std::string_view text) const { return is(here(), TokenKind::kOperator, text); }
  bool at_name(std::string_view text) const { return is(here(), TokenKind::kName, text); }

  bool take_operator(std::string_view text) {
    if (!at_operator(text)) return false;
    next();
    return true;
  }
  bool take_name(std::string_view text) {
    if (!at_name(text)) return false;
    next();
    return true;
  }
  void expect_operator(const std::string& text) {
    if (!take_operator(text)) fail("expected '" + text + "', found " + shown(here()));
  }
  void expect(TokenKind kind, const std::string& what) {
    if (here().kind != kind) fail("expected " + what + ", found " + shown(here()));
    next();
  }
  std::string expect_name(const std::string& what) {
    if (here().kind != TokenKind::kName) fail("expected " + what + ", found " + shown(here()));
    return next().text;
  }
  std::string new_name(const std::string& what) {
    std::string name = expect_name(what);
    if (std::ranges::find(kReserved, name) != kReserved.end())
      fail("'" + name + "' cannot be the name of anything");
    return name;
  }

  /// Counts how deep the parser is in itself.
  class Deeper {
   public:
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kHighest) parser_.fail("nested too deeply");
    }
    ~Deeper() { --parser_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Parser& parser_;
  };

  // Expressions, from what binds least to what binds most.

  ExpressionPtr make(ExpressionKind kind, int line, std::string name = {}) const {
    auto expression = std::make_unique<Expression>();
    expression->kind = kind;
    expression->line = line;
    expression->name = std::move(name);
    return expression;
  }

  void add(Expression& parent, ExpressionPtr part) const {
    grow(parent, part);
    parent.parts.push_back(std::move(part));
  }

  void grow(Expression& parent, const ExpressionPtr& part) const {
    if (part) parent.height = std::max(parent.height, part->height + 1);
    if (parent.height > kHighest) fail("nested too deeply, or too long a chain of operators");
  }

  ExpressionPtr binary(ExpressionKind kind, int line, std::string name, ExpressionPtr left,
                       ExpressionPtr right) const {
    auto expression = make(kind, line, std::move(name));
    add(*expression, std::move(left));
    add(*expression, std::move(right));
    return expression;
  }

  ExpressionPtr parse_expression() {
    const Deeper deeper(*this);
    auto value = parse_or();
    while (at_name("if")) {
      auto conditional = make(ExpressionKind::kConditional, next().line);
      add(*conditional, std::move(value));
      add(*conditional, parse_or());
      add(*conditional, take_name("else") ? parse_expression() : nullptr);
      value = std::move(conditional);
    }
    return value;
  }

  ExpressionPtr parse_or() {
    auto left = parse_and();
    while (at_name("or")) {
      const int line = next().line;
      left = binary(ExpressionKind::kOr, line, {}, std::move(left), parse_and());
    }
    return left;
  }

  ExpressionPtr parse_and() {
    auto left = parse_not();
    while (at_name("and")) {
      const int line = next().line;
      left = binary(ExpressionKind::kAnd, line, {}, std::move(left), parse_not());
    }
    return left;
  }

  ExpressionPtr parse_not() {
    if (!at_name("not")) return parse_comparison();
    const Deeper deeper(*this);
    auto negation = make(ExpressionKind::kNot, next().line);
    add(*negation, parse_not());
    return negation;
  }

  std::string take_comparison() {
    static constexpr std::array kOperators = {"==", "!=", "<", "<=", ">", ">="};
    if (here().kind == TokenKind::kOperator && std::ranges::find(kOperators, here().text) != kOperators.end())
      return next().text;
    if (take_name("in")) return "in";
    if (!at_name("not") || !is(ahead(), TokenKind::kName, "in")) return {};
    next();
    next();
    return "not in";
  }

  ExpressionPtr parse_comparison() {
    const int line = here().line;
    auto left = parse_sum();
    std::string compares = take_comparison();
    if (compares.empty()) return left;
    auto comparison = make(ExpressionKind::kComparison, line);
    add(*comparison, std::move(left));
    for (; !compares.empty(); compares = take_comparison()) {
      comparison->operators.push_back(compares);
      add(*comparison, parse_sum());
    }
    return comparison;
  }

  template <class ParsePart>
  ExpressionPtr parse_chain(std::initializer_list<std::string_view> operators, const ParsePart& parse_part) {
    auto left = parse_part();
    while (here().kind == TokenKind::kOperator &&
           std::ranges::find(operators, here().text) != operators.end()) {
      const Token& word = next();
      left = binary(ExpressionKind::kArithmetic, word.line, word.text, std::move(left), parse_part());
    }
    return left;
  }

  ExpressionPtr parse_sum() {
    return parse_chain({"+", "-"}, [&] { return parse_joined(); });
  }
  ExpressionPtr parse_joined() {
    return parse_chain({"~"}, [&] { return parse_product(); });
  }
  ExpressionPtr parse_product() {
    return parse_chain({"*", "/", "//", "%"}, [&] { return parse_power(); });
  }
  ExpressionPtr parse_power() {
    return parse_chain({"**"}, [&] { return parse_unary(true); });
  }

  ExpressionPtr parse_unary(bool with_filters) {
    const Deeper deeper(*this);
    ExpressionPtr value;
    if (at_operator("-") || at_operator("+")) {
      value = make(at_operator("-") ? ExpressionKind::kNegative : ExpressionKind::kPositive, here().line);
      next();
      add(*value, parse_unary(false));
    } else {
      value = parse_primary();
    }
    value = parse_postfix(std::move(value));
    return with_filters ? parse_filters_and_tests(std::move(value)) : std::move(value);
  }

  ExpressionPtr constant(int line, Value value) const {
    auto expression = make(ExpressionKind::kConstant, line);
    expression->constant = std::move(value);
    return expression;
  }

  ExpressionPtr parse_primary() {
    const Token& token = here();
    switch (token.kind) {
      case TokenKind::kName:
        return parse_name();
      case TokenKind::kString: {
        std::string text;
        while (here().kind == TokenKind::kString) text += next().text;  // like C's, neighbours are one
        return constant(token.line, std::move(text));
      }
      case TokenKind::kInteger:
        return constant(next().line, number<std::int64_t>(token));
      case TokenKind::kFloat:
        return constant(next().line, number<double>(token));
      default:
        break;
    }
    if (take_operator("(")) return parse_parenthesis(token.line);
    if (take_operator("[")) {
      auto list = make(ExpressionKind::kList, token.line);
      parse_items(*list, "]");
      return list;
    }
    if (take_operator("{")) return parse_dictionary(token.line);
    fail("expected an expression, found " + shown(here()));
  }

  template <class Number>
  Number number(const Token& token) const {
    Number value{};
    const auto [end, error] =
        std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
    if (error != std::errc{} || end != token.text.data() + token.text.size())
      fail("number " + token.text + " is too large");
    return value;
  }

  ExpressionPtr parse_name() {
    const Token& token = next();
    if (token.text == "true" || token.text == "True") return constant(token.line, true);
    if (token.text == "false" || token.text == "False") return constant(token.line, false);
    if (token.text == "none" || token.text == "None") return constant(token.line, {});
    return make(ExpressionKind::kName, token.line, token.text);
  }

  /// A value in parentheses, or, with a comma or nothing in them, a tuple.
  ExpressionPtr parse_parenthesis(int line) {
    auto tuple = make(ExpressionKind::kTuple, line);
    if (take_operator(")")) return tuple;
    auto first = parse_expression();
    if (take_operator(")")) return first;
    add(*tuple, std::move(first));
    expect_operator(",");
    parse_items(*tuple, ")");
    return tuple;
  }

  void parse_items(Expression& list, const std::string& end) {
    while (!take_operator(end)) {
      add(list, parse_expression());
      if (!at_operator(end)) expect_operator(",");
    }
  }

  ExpressionPtr parse_dictionary(int line) {
    auto dictionary = make(ExpressionKind::kDictionary, line);
    while (!take_operator("}")) {
      add(*dictionary, parse_expression());
      expect_operator(":");
      add(*dictionary, parse_expression());
      if (!at_operator("}")) expect_operator(",");
    }
    return dictionary;
  }

  /// A value, or, with commas and no parentheses around, a tuple.
  ExpressionPtr parse_bare_tuple() {
    const int line = here().line;
    auto first = parse_expression();
    if (!at_operator(",")) return first;
    auto tuple = make(ExpressionKind::kTuple, line);
    add(*tuple, std::move(first));
    while (take_operator(","))
      if (here().kind != TokenKind::kBlockEnd && here().kind != TokenKind::kOutputEnd)
        add(*tuple, parse_expression());
    return tuple;
  }

  ExpressionPtr parse_postfix(ExpressionPtr value) {
    for (;;) {
      const int line = here().line;
      if (take_operator(".")) {
        value = parse_member(std::move(value), line);
      } else if (take_operator("[")) {
        value = parse_item(std::move(value), line);
      } else if (at_operator("(")) {
        value = parse_call(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExpressionPtr parse_member(ExpressionPtr value, int line) {
    if (here().kind == TokenKind::kInteger) {
      const Token& index = next();
      return binary(ExpressionKind::kItem, line, {}, std::move(value),
                    constant(line, number<std::int64_t>(index)));
    }
    auto member = make(ExpressionKind::kAttribute, line, expect_name("a name behind '.'"));
    add(*member, std::move(value));
    return member;
  }

  ExpressionPtr parse_item(ExpressionPtr value, int line) {
    std::array<ExpressionPtr, 3> bounds;
    std::size_t colons = 0;
    for (; !at_operator("]"); ++colons) {
      if (!at_operator(":")) bounds.at(colons) = parse_expression();
      if (colons == 2 || !take_operator(":")) break;
    }
    if (!at_operator("]")) fail("expected ']', found " + shown(here()));
    next();
    if (colons == 0) {
      if (!bounds[0]) fail("nothing within []");
      return binary(ExpressionKind::kItem, line, {}, std::move(value), std::move(bounds[0]));
    }
    auto slice = make(ExpressionKind::kSlice, line);
    add(*slice, std::move(value));
    for (auto& bound : bounds) add(*slice, std::move(bound));
    return slice;
  }

  ExpressionPtr parse_call(ExpressionPtr callee) {
    auto call = make(ExpressionKind::kCall, here().line);
    add(*call, std::move(callee));
    parse_arguments(*call);
    return call;
  }

  void parse_arguments(Expression& call) {
    expect_operator("(");
    while (!take_operator(")")) {
      if (at_operator("*") || at_operator("**"))
        fail("'" + here().text + "' before an argument is not supported");
      if (here().kind == TokenKind::kName && is(ahead(), TokenKind::kOperator, "=")) {
        std::string name = next().text;
        next();
        auto value = parse_expression();
        grow(call, value);
        for (const auto& [other, unused] : call.named)
          if (other == name) fail("the argument '" + name + "' is given twice");
        call.named.emplace_back(std::move(name), std::move(value));
      } else {
        if (!call.named.empty()) fail("an argument without a name stands behind one with a name");
        add(call, parse_expression());
      }
      if (!at_operator(")")) expect_operator(",");
    }
  }

  ExpressionPtr parse_filters_and_tests(ExpressionPtr value) {
    for (;;) {
      const int line = here().line;
      if (take_operator("|")) {
        auto filter = make(ExpressionKind::kFilter, line, expect_name("a filter behind '|'"));
        add(*filter, std::move(value));
        if (at_operator("(")) parse_arguments(*filter);
        value = std::move(filter);
      } else if (take_name("is")) {
        value = parse_test(std::move(value), line);
      } else if (at_operator("(")) {
        value = parse_call(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExpressionPtr parse_test(ExpressionPtr value, int line) {
    const bool negated = take_name("not");
    auto test = make(ExpressionKind::kTest, line, expect_name("a test behind 'is'"));
    add(*test, std::move(value));
    if (at_operator("(")) {
      parse_arguments(*test);
      if (!test->named.empty()) fail("a test takes no arguments by name");
    } else if (begins_test_argument()) {
      add(*test, parse_postfix(parse_primary()));
    }
    if (!negated) return test;
    auto negation = make(ExpressionKind::kNot, line);
    add(*negation, std::move(test));
    return negation;
  }

  bool begins_test_argument() const {
    switch (here().kind) {
      case TokenKind::kName:
        if (at_name("is")) fail("a test behind a test");
        return !at_name("else") && !at_name("or") && !at_name("and") && !at_name("if") && !at_name("in") &&
               !at_name("not");
      case TokenKind::kString:
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return true;
      default:
        return at_operator("[") || at_operator("{");
    }
  }

  // Statements.

  /// Up to a tag that begins with one of `ends`, whose name is not taken; with none, to the end of the
  /// template.
  Block parse_block(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    Block block;
    for (;;) {
      const Token& token = next();
      if (token.kind == TokenKind::kEnd) {
        if (ends.size() > 0) fail("'" + std::string(*(ends.end() - 1)) + "' is missing");
        return block;
      }
      if (token.kind == TokenKind::kText) {
        block.push_back(statement(StatementKind::kText, token.line));
        block.back().text = token.text;
      } else if (token.kind == TokenKind::kOutputBegin) {
        block.push_back(statement(StatementKind::kOutput, token.line));
        block.back().expressions.push_back(parse_bare_tuple());
        expect(TokenKind::kOutputEnd, "'}}'");
      } else {
        if (here().kind == TokenKind::kName && std::ranges::find(ends, here().text) != ends.end())
          return block;
        block.push_back(parse_statement());
      }
    }
  }

  /// A block that has names of its own, within `loops` loops.
  Block parse_inner_block(std::initializer_list<std::string_view> ends, int loops) {
    std::swap(loops_, loops);
    ++inner_;
    Block block = parse_block(ends);
    --inner_;
    std::swap(loops_, loops);
    return block;
  }

  static Statement statement(StatementKind kind, int line) {
    Statement made;
    made.kind = kind;
    made.line = line;
    return made;
  }

  void end_tag() { expect(TokenKind::kBlockEnd, "'%}'"); }

  void end_block(const std::string& name) {
    if (!take_name(name)) fail("expected '" + name + "', found " + shown(here()));
    end_tag();
  }

  Statement parse_statement() {
    static const std::map<std::string_view, Statement (Parser::*)(int)> kStatements = {
        {"break", &Parser::parse_break}, {"continue", &Parser::parse_continue},
        {"for", &Parser::parse_for},     {"generation", &Parser::parse_generation},
        {"if", &Parser::parse_if},       {"macro", &Parser::parse_macro},
        {"set", &Parser::parse_set},
    };
    const int line = here().line;
    const auto entry = kStatements.find(here().kind == TokenKind::kName ? here().text : std::string_view());
    if (entry == kStatements.end()) fail("the statement " + shown(here()) + " is not supported here");
    next();
    return (this->*entry->second)(line);
  }

  Statement parse_if(int line) {
    Statement made = statement(StatementKind::kIf, line);
    for (bool more = true; more;) {
      made.expressions.push_back(parse_bare_tuple());
      end_tag();
      made.bodies.push_back(parse_block({"elif", "else", "endif"}));
      more = take_name("elif");
    }
    if (take_name("else")) {
      end_tag();
      made.bodies.push_back(parse_block({"endif"}));
    }
    end_block("endif");
    return made;
  }

  Statement parse_for(int line) {
    Statement made = statement(StatementKind::kFor, line);
    const bool in_parentheses = take_operator("(");
    do made.names.push_back(new_name("a name behind 'for'"));
    while (take_operator(",") && !at_name("in"));
    if (in_parentheses) expect_operator(")");
    if (!take_name("in")) fail("expected 'in', found " + shown(here()));
    made.expressions.push_back(parse_or());
    if (at_operator(",")) fail("a list without brackets in 'for' is not supported");
    made.expressions.push_back(take_name("if") ? parse_expression() : nullptr);
    if (at_name("recursive")) fail("'recursive' is not supported");
    end_tag();
    made.bodies.push_back(parse_inner_block({"else", "endfor"}, loops_ + 1));
    made.bodies.emplace_back();
    if (take_name("else")) {
      end_tag();
      made.bodies.back() = parse_block({"endfor"});
    }
    end_block("endfor");
    return made;
  }

  Statement parse_set(int line) {
    Statement made = statement(StatementKind::kSet, line);
    do {
      std::string name = new_name("a name behind 'set'");
      if (take_operator(".")) name += "." + expect_name("a name behind '.'");
      made.names.push_back(std::move(name));
    } while (take_operator(","));
    if (take_operator("=")) {
      made.expressions.push_back(parse_bare_tuple());
      end_tag();
      return made;
    }
    if (made.names.size() > 1 || at_operator("|")) fail("expected '=', found " + shown(here()));
    made.kind = StatementKind::kSetBlock;
    end_tag();
    made.bodies.push_back(parse_inner_block({"endset"}, 0));
    end_block("endset");
    return made;
  }

  Statement parse_macro(int line) {
    if (inner_ > 0)
      fail("a macro within a loop, a macro or another block with names of its own is not supported");
    Statement made = statement(StatementKind::kMacro, line);
    made.macro = std::make_unique<Macro>();
    made.macro->name = new_name("a name behind 'macro'");
    expect_operator("(");
    while (!take_operator(")")) {
      std::string name = new_name("a parameter");
      ExpressionPtr otherwise = take_operator("=") ? parse_expression() : nullptr;
      if (!otherwise && !made.macro->parameters.empty() && made.macro->parameters.back().second)
        fail("a parameter without a default stands behind one with a default");
      made.macro->parameters.emplace_back(std::move(name), std::move(otherwise));
      if (!at_operator(")")) expect_operator(",");
    }
    end_tag();
    made.macro->body = parse_inner_block({"endmacro"}, 0);
    end_block("endmacro");
    return made;
  }

  Statement parse_generation(int line) {
    Statement made = statement(StatementKind::kGroup, line);
    end_tag();
    made.bodies.push_back(parse_inner_block({"endgeneration"}, 0));
    end_block("endgeneration");
    return made;
  }

  Statement parse_break(int line) { return parse_jump(line, StatementKind::kBreak); }
  Statement parse_continue(int line) { return parse_jump(line, StatementKind::kContinue); }

  Statement parse_jump(int line, StatementKind kind) {
    if (loops_ == 0) fail("'break' or 'continue' outside a loop");
    end_tag();
    return statement(kind, line);
  }

  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // that 'break' would leave
  int inner_ = 0;  // blocks around the statement that have names of their own
};

}  // namespace

Block parse(std::string_view source) { return Parser(source).parse_template(); }

}  // namespace infalign::text::jinja
