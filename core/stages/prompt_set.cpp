#include "core/stages/prompt_set.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/stages/data_policy.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

/// A prompt of a file, and its number there from 1.
struct Numbered {
  text::Prompt prompt;
  std::int64_t number = 0;
};
using Prompts = std::vector<Numbered>;

Prompts read_file(const std::filesystem::path& file, const text::ChatTemplateSource& chat) {
  Prompts prompts;
  if (file.empty()) return prompts;
  for (auto& prompt : text::read_prompts(file, chat))
    prompts.push_back({std::move(prompt), std::ssize(prompts) + 1});
  return prompts;
}

/// Makes one side's set of the prompts of its file.
class Collector {
 public:
  Collector(const experiment::Prompts& settings, const text::Tokenizer& tokenizer, std::int64_t max_positions,
            std::int64_t max_new_tokens)
      : settings_(settings),
        tokenizer_(tokenizer),
        max_positions_(max_positions),
        max_new_tokens_(max_new_tokens),
        most_(max_positions - max_new_tokens) {
    if (settings.max_tokens > 0) most_ = std::min(most_, settings.max_tokens);
  }

  /// The first `most` (0: all) of `prompts` that can be used and whose id is not in `taken`.
  PromptSet collect(const Prompts& prompts, const std::filesystem::path& file, std::int64_t most,
                    const std::set<std::uint64_t>& taken) {
    PromptSet set;
    std::set<std::uint64_t> own;
    for (const auto& numbered : prompts) {
      if (most > 0 && std::ssize(set.id) == most) break;
      auto text = numbered.prompt.text;
      auto tokens = tokenizer_.encode(text, !numbered.prompt.is_chat);
      if (std::ssize(tokens) > most_) {
        if (settings_.too_long == "error") refuse(file, numbered.number, std::ssize(tokens));
        ++too_long_;
        if (settings_.too_long == "drop") continue;
        text = truncate(tokens);
      }
      const auto id = storage::Fingerprint().add(text).value();
      if (!own.insert(id).second) {
        ++repeated_;
      } else if (taken.contains(id)) {
        ++in_both_;
      } else {
        set.text.push_back(std::move(text));
        set.tokens.push_back(std::move(tokens));
        set.id.push_back(id);
      }
    }
    return set;
  }

  std::vector<std::string> notes() const {
    std::vector<std::string> lines;
    const auto note = [&](std::int64_t count, const std::string& what) {
      if (count > 0) lines.push_back("prompts: " + counted(count, "prompt") + " " + what);
    };
    note(too_long_, "of more than " + counted(most_, "token") +
                        (settings_.too_long == "drop" ? ", left out" : ", without their beginning"));
    note(repeated_, "equal to an earlier one, left out");
    note(in_both_, "held out though in prompts.train too");
    return lines;
  }

 private:
  [[noreturn]] void refuse(const std::filesystem::path& file, std::int64_t number,
                           std::int64_t length) const {
    const auto room = max_positions_ - max_new_tokens_;
    const std::string why = most_ < room ? "; prompts.max_tokens is " + std::to_string(most_)
                                         : "; with max_new_tokens " + std::to_string(max_new_tokens_) +
                                               " the model's context of " + std::to_string(max_positions_) +
                                               " leaves room for " + std::to_string(room);
    throw InputError(file.string() + ": prompt " + std::to_string(number) + " is " + std::to_string(length) +
                     " tokens" + why + "; shorten it, or set prompts.too_long to drop or truncate_left");
  }

  /// Cuts the beginning of `tokens`; the text that is left.
  std::string truncate(std::vector<std::int32_t>& tokens) const {
    const auto bos = tokenizer_.special().bos;
    truncate_left(tokens, static_cast<std::size_t>(most_), bos);
    const bool begins_with_bos = bos && tokens.front() == *bos;
    return tokenizer_.decode({tokens.begin() + (begins_with_bos ? 1 : 0), tokens.end()}, false);
  }

  const experiment::Prompts& settings_;
  const text::Tokenizer& tokenizer_;
  std::int64_t max_positions_, max_new_tokens_, most_;
  std::int64_t too_long_ = 0, repeated_ = 0, in_both_ = 0;
};

}  // namespace

PromptSets read_prompt_sets(const experiment::Prompts& settings, const text::Tokenizer& tokenizer,
                            const text::ChatTemplateSource& chat, std::int64_t max_positions,
                            std::int64_t max_new_tokens) {
  Prompts train = read_file(settings.train, chat), heldout = read_file(settings.heldout, chat);
  const auto& heldout_file = settings.heldout_fraction > 0 ? settings.train : settings.heldout;
  if (settings.heldout_fraction > 0) {
    const auto border = std::stable_partition(train.begin(), train.end(), [&](const Numbered& numbered) {
      return !is_held_out(numbered.prompt.text, settings.heldout_fraction);
    });
    heldout.assign(std::make_move_iterator(border), std::make_move_iterator(train.end()));
    train.erase(border, train.end());
  }
  Collector collector(settings, tokenizer, max_positions, max_new_tokens);
  PromptSets sets;
  sets.heldout = collector.collect(heldout, heldout_file, settings.max_heldout, {});
  sets.train = collector.collect(train, settings.train, settings.max_train,
                                 {sets.heldout.id.begin(), sets.heldout.id.end()});
  sets.notes = collector.notes();
  const auto need = [&](const PromptSet& set, const std::filesystem::path& file, const std::string& purpose) {
    if (!file.empty() && set.id.empty())
      throw InputError(file.string() + ": no prompts left to " + purpose +
                       (sets.notes.empty() ? "" : " (" + sets.notes.front() + ")"));
  };
  need(sets.heldout, heldout_file, "evaluate on");
  need(sets.train, settings.train, "train on");
  return sets;
}

}  // namespace infalign::stages
