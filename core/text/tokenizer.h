// Text to token ids and back, as a Hugging Face `tokenizer.json` describes it. What the file is made of
// (normalizers, pre-tokenizers, models, post-processors, decoders, added tokens) lives in tokenizer/, a table
// of constructs each; this class puts the parts that a file names in a row.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace infalign::text {

/// The tokens that a model folder gives a meaning to.
struct SpecialTokens {
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;  // the first of `stop`
  std::optional<std::int32_t> pad;
  std::vector<std::int32_t> stop;  // each of them ends a response
};

class Tokenizer {
 public:
  /// Reads `tokenizer.json` of a model folder, and the special tokens from generation_config.json, else
  /// config.json, else tokenizer_config.json. Errors: InputError that names file and construct for a missing
  /// or malformed file or a construct that is not supported.
  static Tokenizer load(const std::filesystem::path& model_folder);

  /// Reads the text of a tokenizer.json; `name` stands for the file in messages. No special tokens are known.
  static Tokenizer parse(std::string_view tokenizer_json, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of valid UTF-8 text, with the special tokens the post-processor adds (BOS) unless `add_special` is
  /// false. Added tokens written out in the text become their ids. Safe to call from several threads. Errors:
  /// std::invalid_argument with the byte offset for invalid UTF-8.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special = true) const;

  /// Text of ids; broken UTF-8 becomes U+FFFD. An id that the vocabulary leaves out stands for nothing.
  /// Errors: std::out_of_range for an id that is negative or not below vocabulary_size().
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special = true) const;

  /// What `continuation` adds to text that already stands: encode(prompt + continuation) is not used, for a
  /// tokenizer may merge across the border; the continuation is encoded without special tokens and without a
  /// prefix space of its own. decode_continuation(encode_continuation(x)) is x, unless the tokenizer
  /// normalises or x holds special tokens.
  std::vector<std::int32_t> encode_continuation(std::string_view continuation) const;

  /// The text that tokens add behind others: like decode, but a leading space is kept.
  std::string decode_continuation(const std::vector<std::int32_t>& ids, bool skip_special = true) const;

  /// The id of a token by its exact string, added tokens first.
  std::optional<std::int32_t> id_of(std::string_view token) const;

  const SpecialTokens& special() const;

  /// One more than the largest id. A model's own vocabulary may be larger (padded).
  std::int64_t vocabulary_size() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace infalign::text
