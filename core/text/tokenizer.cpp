#include "core/text/tokenizer.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "core/json/json.h"
#include "core/text/tokenizer/added_tokens.h"
#include "core/text/tokenizer/decoder.h"
#include "core/text/tokenizer/json_file.h"
#include "core/text/tokenizer/model.h"
#include "core/text/tokenizer/normalizer.h"
#include "core/text/tokenizer/post_processor.h"
#include "core/text/tokenizer/pre_tokenizer.h"
#include "core/text/tokenizer/special_tokens.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

/// The part of tokenizer.json at `key`; null if it is absent.
const Json& part_at(const Construct& root, const char* key) {
  static const Json kNull;
  const auto part = root.json().find(key);
  return part == root.json().end() ? kNull : *part;
}

Place place_of(const Stretch& stretch, Place text_place) {
  return text_place == Place::kBeginning && stretch.span.begin > 0 ? Place::kInside : text_place;
}

std::string_view part_of(std::string_view text, Span span) {
  return text.substr(span.begin, span.end - span.begin);
}

}  // namespace

struct Tokenizer::Impl {
  /// The keys "truncation" and "padding" are settings of a call that some library made before it saved the
  /// file; like transformers, encode does neither.
  explicit Impl(const Construct& root, const std::string& file)
      : normalizers(build_normalizers(part_at(root, "normalizer"), file)),
        pre_tokenizers(build_pre_tokenizers(part_at(root, "pre_tokenizer"), file)),
        model(build_model(part_at(root, "model"), file)),
        frame(build_frame(part_at(root, "post_processor"), file)),
        decoders(build_decoders(part_at(root, "decoder"), file)),
        added(part_at(root, "added_tokens"), file, *model.vocabulary, [this](std::string token) {
          Place place = Place::kBeginning;
          return normalized(std::move(token), place);
        }) {
    root.allow_only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                     "model", "post_processor", "decoder"});
    for (const auto* ids : {&frame.before, &frame.after})
      for (const std::int32_t id : *ids)
        if (!token_of(id))
          throw InputError(file + ": post_processor: token id " + std::to_string(id) +
                           " is not in the vocabulary");
  }

  std::string normalized(std::string text, Place& place) const {
    for (const Normalizer& normalize : normalizers) normalize(text, place);
    return text;
  }

  /// Text that holds no added token any more, already normalised.
  void encode_plain(std::string_view text, Place place, std::vector<std::int32_t>& ids) const {
    Pieces pieces(std::string(text), place);
    for (const PreTokenizer& cut : pre_tokenizers) cut(pieces);
    model.encode(pieces, ids);
  }

  std::vector<std::int32_t> encode(std::string_view text, Place place) const {
    if (const std::size_t offset = find_invalid_utf8(text); offset != std::string_view::npos)
      throw std::invalid_argument("invalid UTF-8 at byte " + std::to_string(offset));
    std::vector<std::int32_t> ids;
    for (const Stretch& outer : added.as_written().cut(text)) {
      if (outer.token) {
        ids.push_back(outer.token->id);
        continue;
      }
      Place outer_place = text::place_of(outer, place);
      const std::string stretch = normalized(std::string(part_of(text, outer.span)), outer_place);
      for (const Stretch& inner : added.in_normalized_text().cut(stretch)) {
        if (inner.token) {
          ids.push_back(inner.token->id);
        } else {
          encode_plain(part_of(stretch, inner.span), text::place_of(inner, outer_place), ids);
        }
      }
    }
    return ids;
  }

  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special, bool continues) const {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= size())
        throw std::out_of_range("token id " + std::to_string(id) + " is outside the vocabulary of " +
                                std::to_string(size()));
      const std::string* token = token_of(id);
      if (token && !(skip_special && added.is_special(*token))) tokens.push_back(*token);
    }
    for (const Decoder& decode_tokens : decoders) decode_tokens(tokens, continues);
    std::string text;
    for (const std::string& token : tokens) text += token;
    return text;
  }

  const std::string* token_of(std::int32_t id) const {
    const std::string* token = added.vocabulary().token_of(id);
    return token ? token : model.vocabulary->token_of(id);
  }

  std::optional<std::int32_t> id_of(std::string_view token) const {
    const auto id = added.vocabulary().id_of(token);
    return id ? id : model.vocabulary->id_of(token);
  }

  std::int64_t size() const { return std::max(added.vocabulary().size(), model.vocabulary->size()); }

  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  Model model;
  Frame frame;
  std::vector<Decoder> decoders;
  AddedTokens added;
  SpecialTokens special;
};

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, const std::string& name) {
  const Json json = parse_json(tokenizer_json, name);
  return Tokenizer(std::make_unique<Impl>(Construct(json, name), name));
}

Tokenizer Tokenizer::load(const std::filesystem::path& model_folder) {
  const std::filesystem::path path = model_folder / "tokenizer.json";
  const Json json = read_json_file(path);
  auto impl = std::make_unique<Impl>(Construct(json, path.string()), path.string());
  impl->special =
      read_special_tokens(model_folder, [&](std::string_view token) { return impl->id_of(token); });
  return Tokenizer(std::move(impl));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  std::vector<std::int32_t> ids = impl_->encode(text, Place::kBeginning);
  if (add_special) {
    ids.insert(ids.begin(), impl_->frame.before.begin(), impl_->frame.before.end());
    ids.insert(ids.end(), impl_->frame.after.begin(), impl_->frame.after.end());
  }
  return ids;
}

std::string Tokenizer::decode(const std::vector<std::int32_t>& ids, bool skip_special) const {
  return impl_->decode(ids, skip_special, false);
}

std::vector<std::int32_t> Tokenizer::encode_continuation(std::string_view continuation) const {
  return impl_->encode(continuation, Place::kContinuation);
}

std::string Tokenizer::decode_continuation(const std::vector<std::int32_t>& ids, bool skip_special) const {
  return impl_->decode(ids, skip_special, true);
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const { return impl_->id_of(token); }

const SpecialTokens& Tokenizer::special() const { return impl_->special; }

std::int64_t Tokenizer::vocabulary_size() const { return impl_->size(); }

}  // namespace infalign::text
