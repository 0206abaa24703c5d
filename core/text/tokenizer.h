// Text to token ids and back, as a Hugging Face `tokenizer.json` describes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace infalign::text {

class Tokenizer {
 public:
  /// Reads `tokenizer.json` (and what belongs to it) of a model folder. Errors: InputError that names file and construct
  /// for a missing or malformed file or a construct that is not supported.
  static Tokenizer load(const std::filesystem::path& model_folder);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Ids of valid UTF-8 text, with the special tokens the post-processor adds (BOS) unless `add_special` is false.
  /// Errors: std::invalid_argument with the byte offset for invalid UTF-8.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special = true) const;

  /// Text of ids; broken UTF-8 becomes U+FFFD. Errors: std::out_of_range for an id outside the vocabulary.
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special = true) const;

  /// What `continuation` adds to text that already stands: encode(prompt + continuation) is not used, for a tokenizer
  /// may merge across the border; the continuation is encoded without special tokens and without a prefix space of its own.
  std::vector<std::int32_t> encode_continuation(std::string_view continuation) const;

  /// The text that tokens add behind others: like decode, but a leading space is kept.
  std::string decode_continuation(const std::vector<std::int32_t>& ids, bool skip_special = true) const;

  std::int64_t vocabulary_size() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace infalign::text
