#include "core/stages/inference.h"

#include <algorithm>
#include <iostream>
#include <optional>

#include "core/alignment/procedures.h"
#include "core/error.h"
#include "core/json/json.h"
#include "core/model/generation.h"
#include "core/stages/adapter_folder.h"
#include "core/stages/answers.h"
#include "core/stages/closing_token.h"
#include "core/stages/design_specs.h"
#include "core/stages/language_problem.h"
#include "core/stages/model_folder.h"
#include "core/stages/reward_source.h"
#include "core/text/chat_template.h"
#include "core/text/records.h"
#include "core/text/tokenizer/json_file.h"

namespace infalign::stages {
namespace {

void require_language_model(const ModelFolder& folder) {
  if (folder.transformer.config().score_head)
    throw InputError(folder.path.string() +
                     ": a reward model, which has no language-model head to sample from");
}

void write_line(std::ostream& out, const OrderedJson& line) { out << json_text(line) << std::endl; }

/// Reads JSON lines and calls visit(object, where); keys keep their order, which chat templates can see.
template <class Visit>
void for_each_object(std::istream& input, const std::string& name, Visit&& visit) {
  std::string line;
  for (std::int64_t number = 1; std::getline(input, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto where = name + ":" + std::to_string(number);
    if (const auto bad = text::find_invalid_utf8(line); bad != std::string_view::npos)
      throw InputError(where + ": invalid UTF-8 at byte " + std::to_string(bad));
    const auto object = text::parse_ordered_json(line, where);
    if (!object.is_object()) throw InputError(where + ": not a JSON object");
    try {
      visit(object, where);
    } catch (const Json::exception& error) {
      throw InputError(where + ": " + error.what());
    } catch (const std::out_of_range& error) {
      throw InputError(where + ": " + error.what());
    } catch (const std::invalid_argument& error) {
      throw InputError(where + ": " + error.what());
    }
  }
}

/// The text of a line's "messages", by the template of the model or the one chosen instead.
class ChatRenderer {
 public:
  ChatRenderer(const std::filesystem::path& model, const std::string& choice)
      : model_(model), template_(text::ChatTemplate::load(description_folder(model), choice)) {}

  std::string render(const OrderedJson& object, const std::string& where) const {
    if (!template_)
      throw InputError(where + ": " + model_.string() + " has no chat template; --chat-template gives one");
    try {
      return template_->render(object.at("messages"), object.value("add_generation_prompt", false));
    } catch (const InputError& error) {
      throw InputError(where + ": " + error.what());
    }
  }

 private:
  std::filesystem::path model_;
  std::optional<text::ChatTemplate> template_;
};

/// What --procedure and the options of its keys ask for, with all that it needs.
alignment::Procedure asked_procedure(const GenerateOptions& options) {
  const auto procedure =
      parse_procedure("--procedure", options.procedure, {options.keys.begin(), options.keys.end()})
          .procedure();
  const auto refuse = [&](const std::string& what) {
    throw ConfigurationError("--procedure " + options.procedure + " " + what);
  };
  if (procedure.is_calibrated() && procedure.rank_weights.empty())
    refuse("chooses among how many candidates? Give --n");  // with n = 1 above_quantile is theory's alone
  if (procedure.reads_answers && options.answer.empty())
    refuse("votes on the candidates' answers: give --answer REGEX");
  if (!procedure.reads_answers && !options.answer.empty())
    refuse("takes no --answer: it does not vote; majority_vote does");
  if (!options.reward.empty() && !options.reward_command.empty())
    throw ConfigurationError("--reward and --reward-command: give one of them");
  if (procedure.n > 1 && procedure.reads_rewards && options.reward.empty() && options.reward_command.empty())
    refuse("chooses among candidates by their reward: give --reward DIR or --reward-command COMMAND");
  return procedure;
}

/// Null where none is asked for.
std::unique_ptr<RewardSource> reward_source(const kernels::Stream& on, const GenerateOptions& options) {
  experiment::RewardChoice choice;
  if (!options.reward.empty()) choice.models = {options.reward};
  if (!options.reward_command.empty()) choice.command = {"sh", "-c", options.reward_command};
  return make_reward_source("--reward-command", choice, options.model, on);
}

}  // namespace

void generate(const kernels::Stream& on, const GenerateOptions& options, std::ostream& out) {
  const auto procedure = asked_procedure(options);
  const bool selects = procedure.n > 1;
  std::optional<Answers> answers;
  if (procedure.reads_answers) answers.emplace("--answer", options.answer);
  const auto folder = ModelFolder::load_frozen(options.model, options.stored, options.adapter, {}, on);
  require_language_model(folder);
  const auto reward = reward_source(on, options);

  model::SamplingSettings settings;
  settings.temperature = static_cast<float>(options.temperature);
  settings.top_p = static_cast<float>(options.top_p);
  settings.greedy = options.greedy;
  settings.max_new_tokens = options.max_new_tokens;
  settings.stop_tokens = folder.tokenizer.special().stop;
  model::Generator generator(folder.transformer);
  const auto weights = folder.prepare(on, kernels::Use::kSampling, kernels::Precision::kFloat32);
  const std::int64_t candidates = procedure.n;
  const auto count = static_cast<std::size_t>(candidates);

  for (std::size_t p = 0; p < options.prompts.size(); ++p) {
    const model::Prompt prompt{folder.tokenizer.encode(options.prompts[p].text, !options.prompts[p].is_chat),
                               p};
    const auto room = folder.transformer.config().max_positions;
    if (static_cast<std::int64_t>(prompt.tokens.size()) + options.max_new_tokens > room)
      throw InputError("prompt " + std::to_string(p + 1) + " is " + std::to_string(prompt.tokens.size()) +
                       " tokens; with --max-new-tokens " + std::to_string(options.max_new_tokens) +
                       " it exceeds the model's context of " + std::to_string(room));
    const auto responses =
        generator.generate(on, weights, std::span(&prompt, 1), options.samples * candidates, settings,
                           {options.seed, kernels::Purpose::kGeneration})[0];
    std::vector<std::vector<std::int32_t>> ids;
    std::vector<std::string> texts;
    for (const auto& response : responses) {
      ids.push_back(without_stop(response));
      texts.push_back(folder.tokenizer.decode_continuation(ids.back()));
    }
    std::vector<float> rewards(texts.size());  // without a reward model all equal
    if (reward) rewards = reward->score(on, prompt.tokens, options.prompts[p].text, ids, texts);
    std::vector<std::int64_t> votes;
    if (answers) votes = answers->numbers(texts);

    for (std::int64_t s = 0; s < options.samples; ++s) {
      const auto first = static_cast<std::size_t>(s * candidates), end = first + count;
      const auto own = [&](const auto& all) {
        return all.empty() ? std::span(all) : std::span(all).subspan(first, count);
      };
      const double uniform = kernels::random_uniform({options.seed, kernels::Purpose::kChoice}, p,
                                                     static_cast<std::uint32_t>(s), 0);
      const auto chosen = first + (selects ? procedure.select({own(rewards), own(votes)}, uniform) : 0);
      if (!options.json) {
        out << options.prompts[p].text << texts[chosen] << "\n";
        for (std::size_t c = first; options.verbose && (reward || answers) && c < end; ++c) {
          out << (c == chosen ? "  * " : "    ");
          if (reward) out << rewards[c] << "  ";
          if (answers) out << answers->in(texts[c]).value_or("-") << "  ";
          out << texts[c] << "\n";
        }
        out.flush();
        continue;
      }
      const auto describe = [&](std::size_t i) {
        OrderedJson json{{"text", texts[i]},
                         {"token_ids", responses[i].tokens},
                         {"logprobs", responses[i].log_probabilities_at_1},
                         {"finish_reason", responses[i].stopped ? "stop" : "length"}};
        if (reward) json["reward"] = rewards[i];
        if (answers) {
          const auto answer = answers->in(texts[i]);
          json["answer"] = answer ? OrderedJson(*answer) : OrderedJson(nullptr);
        }
        return json;
      };
      OrderedJson line{{"prompt_index", p}, {"sample_index", s}};
      line.update(describe(chosen));
      if (options.verbose && selects)
        for (std::size_t c = first; c < end; ++c) line["candidates"].push_back(describe(c));
      write_line(out, line);
    }
  }
}

void score(const kernels::Stream& on, const ScoreOptions& options, std::istream& input,
           const std::string& input_name, std::ostream& out) {
  const auto folder = ModelFolder::load_frozen(options.model, options.stored, options.adapter, {}, on);
  std::optional<ChatRenderer> chat;  // a template that is not asked for need not be understood
  const auto& transformer = folder.transformer;
  const auto weights = folder.prepare(on, kernels::Use::kScoring, kernels::Precision::kFloat32);
  model::Activations activations;
  model::TokenLogProbabilities log_probabilities;
  const bool is_reward_model = transformer.config().score_head;
  const auto closing = is_reward_model
                           ? closing_token(description_folder(options.model), folder.tokenizer, "as_saved")
                           : std::nullopt;
  const auto closed = [&](std::vector<std::int32_t> ids) {
    if (closing) ids.push_back(*closing);
    return ids;
  };
  for_each_object(input, input_name, [&](const OrderedJson& object, const std::string& where) {
    model::PackedBatch batch;
    model::Targets targets;
    if (object.contains("prompt") && object.contains("response")) {
      const auto prompt = batch.add(folder.tokenizer.encode(object.at("prompt").get<std::string>()));
      const auto response =
          closed(folder.tokenizer.encode_continuation(object.at("response").get<std::string>()));
      if (!response.empty()) targets.add_continuation(batch, batch.add(response, prompt));
    } else if (object.contains("token_ids") || object.contains("text")) {
      const auto ids = object.contains("token_ids")
                           ? object.at("token_ids").get<std::vector<std::int32_t>>()
                           : closed(folder.tokenizer.encode(object.at("text").get<std::string>()));
      targets.add_sequence(batch, batch.add(ids));
    } else if (object.contains("messages")) {
      if (!chat) chat.emplace(options.model, options.chat_template);
      auto ids = folder.tokenizer.encode(chat->render(object, where), false);
      if (is_reward_model) leave_off_stop(folder.tokenizer, ids);
      targets.add_sequence(batch, batch.add(closed(std::move(ids))));
    } else {
      throw InputError(where +
                       ": expected \"token_ids\", \"text\", \"messages\", or \"prompt\" and \"response\"");
    }
    if (batch.size() == 0) throw InputError(where + ": no tokens");
    OrderedJson line;
    if (is_reward_model) {
      const auto last = static_cast<std::int32_t>(batch.size() - 1);
      line["reward"] = transformer.score(on, weights, batch, std::span(&last, 1), activations)[0];
    } else {
      transformer.forward(on, weights, batch, model::Keep::kNothing, activations);
      log_probabilities.forward(on, transformer, weights, activations, targets, 1);
      const auto values = log_probabilities.values();
      double sum = 0;
      for (const float value : values) sum += static_cast<double>(value);
      line["logprobs"] = std::vector<float>(values.begin(), values.end());
      line["nll"] =
          values.empty() ? OrderedJson(nullptr) : OrderedJson(-sum / static_cast<double>(values.size()));
    }
    write_line(out, line);
  });
}

void tokenize(const std::filesystem::path& model, const std::string& chat_template, std::istream& input,
              const std::string& input_name, std::ostream& out) {
  const auto tokenizer = text::Tokenizer::load(description_folder(model));
  std::optional<ChatRenderer> chat;
  for_each_object(input, input_name, [&](const OrderedJson& object, const std::string& where) {
    if (object.contains("messages")) {
      if (!chat) chat.emplace(model, chat_template);
      const std::string text = chat->render(object, where);
      return write_line(out, {{"ids", tokenizer.encode(text, false)}, {"text", text}});
    }
    if (!object.contains("text") && !object.contains("ids"))
      throw InputError(where + ": expected \"text\", \"ids\" or \"messages\"");
    const auto ids = object.contains("text") ? tokenizer.encode(object.at("text").get<std::string>())
                                             : object.at("ids").get<std::vector<std::int32_t>>();
    write_line(out, {{"ids", ids}, {"text", tokenizer.decode(ids)}});
  });
}

}  // namespace infalign::stages
