#include "core/text/tokenizer/post_processor.h"

#include "core/json/json.h"

namespace infalign::text {
namespace {

/// A template such as "<s> $A </s>"; the one for pairs of texts is not needed.
Frame template_frame(const Construct& construct) {
  construct.allow_only({"single", "pair", "special_tokens"});
  const Construct special_tokens = construct.within(construct.object("special_tokens"), "special_tokens");
  Frame frame;
  bool past_text = false;
  for (const Json& json : construct.list("single")) {
    const Construct part = construct.within(json, "single");
    if (json.contains("SpecialToken")) {
      const std::string name = part.within(part.object("SpecialToken"), "SpecialToken").text("id");
      const Construct token = special_tokens.within(special_tokens.object(name), name);
      for (const Json& id : token.list("ids"))
        (past_text ? frame.after : frame.before).push_back(token.token_id(id));
    } else if (part.within(part.object("Sequence"), "Sequence").text("id") == "A" && !past_text) {
      past_text = true;
    } else {
      construct.refuse("'single' must hold the text A, once, among special tokens");
    }
  }
  if (!past_text) construct.refuse("'single' does not hold the text A");
  return frame;
}

Frame byte_level_frame(const Construct& construct) {
  construct.allow_only(
      {"add_prefix_space", "trim_offsets", "use_regex"});  // about offsets, which are not kept
  return {};
}

/// BERT's and RoBERTa's: one token before the text and one behind it.
Frame bert_frame(const Construct& construct) {
  construct.allow_only({"sep", "cls", "trim_offsets", "add_prefix_space"});  // the latter two: about offsets
  const auto id = [&](const char* key) {
    const Json& token = construct.list(key);
    if (token.size() != 2) construct.refuse("'" + std::string(key) + "' must be a token and its id");
    return construct.token_id(token[1]);
  };
  return {{id("cls")}, {id("sep")}};
}

const std::map<std::string_view, Frame (*)(const Construct&)> kPostProcessors = {
    {"BertProcessing", bert_frame},
    {"ByteLevel", byte_level_frame},
    {"RobertaProcessing", bert_frame},
    {"TemplateProcessing", template_frame},
};

}  // namespace

Frame build_frame(const Json& part, const std::string& file) {
  Frame frame;
  for (const Construct& construct : flattened(part, file + ": post_processor", "processors")) {
    const Frame outer = known(kPostProcessors, construct)(construct);
    frame.before.insert(frame.before.begin(), outer.before.begin(), outer.before.end());
    frame.after.insert(frame.after.end(), outer.after.begin(), outer.after.end());
  }
  return frame;
}

}  // namespace infalign::text
