// Models at work outside a run: sampling plainly or through an inference procedure, scoring, tokenizing. What
// the commands `generate`, `score` and `tokenize` do; results are written as they come, one JSON object a
// line or as text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "core/text/records.h"
#include "kernels/device.h"
#include "kernels/precision.h"

namespace infalign::stages {

struct GenerateOptions {
  std::filesystem::path model, adapter;                      // the adapter, if any, is added to the model
  kernels::Precision stored = kernels::Precision::kFloat32;  // in what the weights are held
  std::vector<text::Prompt> prompts;
  std::int64_t samples = 1;
  std::int64_t max_new_tokens = 64;
  double temperature = 1, top_p = 1;
  bool greedy = false;
  std::uint64_t seed = 1;
  std::string procedure = "standard";       // a specification (design_specs.h)
  std::map<std::string, std::string> keys;  // n, k, ... given beside it
  std::filesystem::path reward;             // by which the procedure chooses, or ...
  std::string reward_command;               // ... a shell command (reward_command.h)
  std::string answer;                       // regular expression: what a procedure votes on
  bool verbose = false;                     // candidates and their rewards beside the answer
  bool json = false;
};

/// For each prompt, `samples` answers: plain samples, or each the procedure's choice among n fresh
/// candidates, those it cannot tell apart with equal chances. Errors: InputError; ConfigurationError for a
/// procedure that is none or lacks what it chooses by.
void generate(const kernels::Stream& on, const GenerateOptions& options, std::ostream& out);

struct ScoreOptions {
  std::filesystem::path model, adapter;  // as in GenerateOptions
  kernels::Precision stored = kernels::Precision::kFloat32;
  std::string chat_template;  // as in tokenize
};

/// Each line of `input`: {"token_ids": [...]}, {"text": ...}, {"messages": [...]} (rendered as in tokenize),
/// or {"prompt": ..., "response": ...}; writes logprobs, nll, and reward where the model has a score head,
/// read where it says (closing_token.h), of token_ids at the last. Errors: InputError with the line number.
void score(const kernels::Stream& on, const ScoreOptions& options, std::istream& input,
           const std::string& input_name, std::ostream& out);

/// Each line of `input`: {"text": ...}, {"ids": [...]}, or {"messages": [...], "add_generation_prompt":
/// false}; writes ids and text, of messages the text that the chat template makes of them. `chat_template` is
/// a choice as in text::ChatTemplate::load, "" for the model's own. Errors: InputError with the line number.
void tokenize(const std::filesystem::path& model, const std::string& chat_template, std::istream& input,
              const std::string& input_name, std::ostream& out);

}  // namespace infalign::stages
