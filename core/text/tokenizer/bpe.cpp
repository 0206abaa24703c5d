#include "core/text/tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "core/json/json.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

}  // namespace

/// What one call of encode needs again and again.
struct Bpe::Workspace {
  /// A token in the making; neighbours are linked by their index.
  struct Node {
    std::int32_t id;
    std::uint32_t previous;  // kNone at the beginning
    std::uint32_t next;      // kNone at the end
    std::uint32_t symbols;   // how many symbols it covers; 0 once it is part of the node before it
  };

  /// The node at `position` and the next may become `id`, together `symbols` long. As nodes only grow, the
  /// pair is still the one that was meant exactly if its length is: stale candidates stay in the heap until
  /// they come up.
  struct Candidate {
    std::uint32_t rank;
    std::uint32_t position;
    std::int32_t id;
    std::uint32_t symbols;

    bool operator>(const Candidate& other) const {
      return std::tie(rank, position) > std::tie(other.rank, other.position);
    }
  };

  std::vector<Symbol> symbols;
  std::vector<Node> nodes;
  std::vector<Candidate> heap;
};

Bpe::Bpe(const Construct& construct, std::shared_ptr<const Vocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)),
      fuse_unknown_(construct.flag("fuse_unk", false)),
      ignore_merges_(construct.flag("ignore_merges", false)) {
  construct.allow_only({"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                        "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (const auto dropout = construct.json().find("dropout"); dropout != construct.json().end())
    if (!dropout->is_null() && *dropout != 0) construct.refuse("'dropout' is not supported");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (construct.optional_text(affix)) construct.refuse("'" + std::string(affix) + "' is not supported");

  for (const auto& [token, id] : vocabulary_->ids()) {
    if (token.empty()) continue;
    const CodePoint character = code_point_at(token, 0);
    if (character.length == token.size()) symbol_of_.set(character.value, {id, ends_of(token)});
  }
  if (const auto unknown = construct.optional_text("unk_token")) {
    const auto id = vocabulary_->id_of(*unknown);
    if (!id) construct.refuse("'unk_token' " + *unknown + " is not in the vocabulary");
    unknown_ = Symbol{*id, ends_of(*unknown)};
  }
  read_byte_tokens(construct);
  read_merges(construct);
}

void Bpe::read_byte_tokens(const Construct& construct) {
  byte_tokens_.fill(-1);
  if (!construct.flag("byte_fallback", false)) return;
  for (unsigned byte = 0; byte < 256; ++byte)
    byte_tokens_[byte] = vocabulary_->id_of(byte_token(byte)).value_or(-1);
}

/// Merges in order of rank, each ["a", "b"] or, in files of before 2024, "a b".
void Bpe::read_merges(const Construct& construct) {
  std::uint32_t rank = 0;
  for (const Json& merge : construct.list("merges")) {
    if (merge.is_string()) {
      const auto& line = merge.get_ref<const std::string&>();
      if (line.starts_with("#version")) continue;
      const std::size_t space = line.find(' ');
      if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos)
        construct.refuse("merge '" + line + "' does not consist of two tokens");
      add_merge(construct, std::string_view(line).substr(0, space), std::string_view(line).substr(space + 1),
                rank++);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      add_merge(construct, merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>(),
                rank++);
    } else {
      construct.refuse("a merge must be two tokens");
    }
  }
}

void Bpe::add_merge(const Construct& construct, std::string_view left, std::string_view right,
                    std::uint32_t rank) {
  const std::string joined = std::string(left) += right;
  const auto left_id = vocabulary_->id_of(left);
  const auto right_id = vocabulary_->id_of(right);
  const auto joined_id = vocabulary_->id_of(joined);
  if (left.empty() || right.empty() || !left_id || !right_id || !joined_id)
    construct.refuse("merge '" + std::string(left) + " " + std::string(right) +
                     "': a token of it is not in the vocabulary");
  merges_.set(pair_key(*left_id, *right_id), {rank, *joined_id});
  crossed_.set(std::size_t{ends_of(left).last} << kCharacterBits | ends_of(right).first);
}

std::uint16_t Bpe::shortened(char32_t character) {
  return static_cast<std::uint16_t>(character & ((1u << kCharacterBits) - 1));
}

Bpe::Ends Bpe::ends_of(std::string_view token) {
  return {shortened(code_point_at(token, 0).value), shortened(code_point_before(token, token.size()).value)};
}

bool Bpe::append_byte_tokens(std::string_view character, std::vector<Symbol>& symbols) const {
  const auto token = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
  if (!std::ranges::all_of(character, [&](char byte) { return token(byte) >= 0; })) return false;
  for (const char byte : character) symbols.push_back({token(byte), {shortened('<'), shortened('>')}});
  return true;
}

/// The symbols of a piece: characters, else bytes, else the unknown token (once for several in a row if they
/// are fused), else nothing.
void Bpe::append_symbols(std::string_view piece, std::vector<Symbol>& symbols) const {
  bool after_unknown = false;
  for (std::size_t offset = 0; offset < piece.size();) {
    const CodePoint character = code_point_at(piece, offset);
    const bool fuses = after_unknown && fuse_unknown_;
    after_unknown = false;
    if (const Symbol* symbol = symbol_of_.find(character.value)) {
      symbols.push_back(*symbol);
    } else if (!append_byte_tokens(piece.substr(offset, character.length), symbols) && unknown_) {
      if (!fuses) symbols.push_back(*unknown_);
      after_unknown = true;
    }
    offset += character.length;
  }
}

bool Bpe::may_cross(const Symbol& left, const Symbol& right) const {
  return crossed_[std::size_t{left.ends.last} << kCharacterBits | right.ends.first];
}

void Bpe::merge_segment(std::span<const Symbol> segment, Workspace& work,
                        std::vector<std::int32_t>& ids) const {
  if (segment.size() == 1) return ids.push_back(segment.front().id);
  if (segment.size() >= kNone) throw std::length_error("a piece of 4 G characters is too long to tokenise");
  auto& nodes = work.nodes;
  auto& heap = work.heap;
  nodes.clear();
  heap.clear();

  const auto propose = [&](std::uint32_t left) {
    const std::uint32_t right = nodes[left].next;
    if (const Merge* merge = merges_.find(pair_key(nodes[left].id, nodes[right].id))) {
      heap.push_back({merge->rank, left, merge->id, nodes[left].symbols + nodes[right].symbols});
      std::ranges::push_heap(heap, std::greater<>());
    }
  };

  const auto size = static_cast<std::uint32_t>(segment.size());
  for (std::uint32_t i = 0; i < size; ++i)
    nodes.push_back({segment[i].id, i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1, 1});
  for (std::uint32_t i = 0; i + 1 < size; ++i) propose(i);

  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const Workspace::Candidate best = heap.back();
    heap.pop_back();
    Workspace::Node& left = nodes[best.position];
    if (left.symbols == 0 || left.next == kNone || left.symbols + nodes[left.next].symbols != best.symbols)
      continue;
    Workspace::Node& right = nodes[left.next];
    left.id = best.id;
    left.symbols = best.symbols;
    left.next = right.next;
    right.symbols = 0;
    if (left.next != kNone) {
      nodes[left.next].previous = best.position;
      propose(best.position);
    }
    if (left.previous != kNone) propose(left.previous);
  }
  for (std::uint32_t i = 0; i != kNone; i = nodes[i].next) ids.push_back(nodes[i].id);
}

void Bpe::encode(const Pieces& pieces, std::vector<std::int32_t>& ids) const {
  Workspace work;
  for (std::size_t i = 0; i < pieces.spans.size(); ++i) {
    if (ignore_merges_)
      if (const auto whole = vocabulary_->id_of(pieces[i])) {
        ids.push_back(*whole);
        continue;
      }
    auto& symbols = work.symbols;
    symbols.clear();
    append_symbols(pieces[i], symbols);
    for (std::size_t begin = 0; begin < symbols.size();) {
      std::size_t end = begin + 1;
      while (end < symbols.size() && may_cross(symbols[end - 1], symbols[end])) ++end;
      merge_segment(std::span(symbols).subspan(begin, end - begin), work, ids);
      begin = end;
    }
  }
}

}  // namespace infalign::text
