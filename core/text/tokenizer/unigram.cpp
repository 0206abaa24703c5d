#include "core/text/tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/json/json.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

/// By how much an unknown character scores less than the worst token.
constexpr double kUnknownPenalty = 10;

}  // namespace

Unigram::Unigram(const Construct& construct) {
  construct.allow_only({"unk_id", "vocab", "byte_fallback", "fuse_unk"});
  if (!construct.flag("fuse_unk", true)) construct.refuse("'fuse_unk' false is not supported");
  double worst = std::numeric_limits<double>::infinity();
  std::int32_t id = 0;
  for (const Json& entry : construct.list("vocab")) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      construct.refuse("each entry of 'vocab' must be a token and its score");
    const auto& token = entry[0].get_ref<const std::string&>();
    const auto score = entry[1].get<double>();
    if (!vocabulary_->add(token, id)) construct.refuse("'" + token + "' stands in the vocabulary twice");
    add_to_trie(token, id++, score);
    worst = std::min(worst, score);
  }
  unknown_score_ = worst - kUnknownPenalty;
  if (const auto given = construct.json().find("unk_id");
      given != construct.json().end() && !given->is_null()) {
    unknown_ = construct.token_id(*given);
    if (!vocabulary_->token_of(*unknown_))
      construct.refuse("'unk_id' " + std::to_string(*unknown_) + " is not in the vocabulary");
  }
  if (construct.flag("byte_fallback", false)) {
    byte_tokens_.emplace();
    for (unsigned byte = 0; byte < 256; ++byte)
      (*byte_tokens_)[byte] = vocabulary_->id_of(byte_token(byte)).value_or(-1);
  }
}

void Unigram::add_to_trie(std::string_view token, std::int32_t id, double score) {
  if (token.empty()) return;
  std::uint32_t node = 0;
  for (const char c : token) {
    const std::uint64_t key = std::uint64_t{node} << 8 | static_cast<unsigned char>(c);
    if (const std::uint32_t* child = children_.find(key)) {
      node = *child;
    } else {
      node = static_cast<std::uint32_t>(nodes_.size());
      children_.set(key, node);
      nodes_.emplace_back();
    }
  }
  nodes_[node] = {id, score};
}

void Unigram::append_unknown(std::string_view text, std::vector<std::int32_t>& ids) const {
  // A text may spell the unknown token out.
  if (const auto known = vocabulary_->id_of(text)) return ids.push_back(*known);
  const auto byte_id = [&](char byte) { return (*byte_tokens_)[static_cast<unsigned char>(byte)]; };
  if (byte_tokens_ && std::ranges::all_of(text, [&](char byte) { return byte_id(byte) >= 0; })) {
    for (const char byte : text) ids.push_back(byte_id(byte));
    return;
  }
  if (!unknown_)
    throw InputError("'" + std::string(text) +
                     "' has no tokens in this tokenizer, which has no unknown token");
  ids.push_back(*unknown_);
}

void Unigram::encode_piece(std::string_view piece, std::vector<Step>& best,
                           std::vector<std::int32_t>& ids) const {
  best.assign(piece.size() + 1, {0, 0, -1});
  const auto reach = [&](std::size_t begin, std::size_t end, std::int32_t id, double score) {
    const double sum = best[begin].score + score;
    if (best[end].id == -1 || sum > best[end].score) best[end] = {sum, begin, id};
  };
  for (std::size_t begin = 0; begin < piece.size();) {
    const std::size_t next = begin + code_point_at(piece, begin).length;
    bool is_known = false;
    std::uint32_t node = 0;
    for (std::size_t end = begin; end < piece.size();) {
      const auto byte = static_cast<unsigned char>(piece[end++]);
      const std::uint32_t* child = children_.find(std::uint64_t{node} << 8 | byte);
      if (child == nullptr) break;
      node = *child;
      if (nodes_[node].id < 0) continue;
      reach(begin, end, nodes_[node].id == unknown_ ? kUnknown : nodes_[node].id, nodes_[node].score);
      is_known |= end == next;
    }
    if (!is_known) reach(begin, next, kUnknown, unknown_score_);
    begin = next;
  }

  const std::size_t first = ids.size();
  std::vector<std::int32_t> of_run;
  for (std::size_t end = piece.size(); end > 0;) {
    if (best[end].id != kUnknown) {
      ids.push_back(best[end].id);
      end = best[end].begin;
      continue;
    }
    std::size_t begin = end;
    while (begin > 0 && best[begin].id == kUnknown) begin = best[begin].begin;
    of_run.clear();
    append_unknown(piece.substr(begin, end - begin), of_run);
    ids.insert(ids.end(), of_run.rbegin(), of_run.rend());
    end = begin;
  }
  std::reverse(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end());
}

void Unigram::encode(const Pieces& pieces, std::vector<std::int32_t>& ids) const {
  std::vector<Step> best;
  for (std::size_t i = 0; i < pieces.spans.size(); ++i) encode_piece(pieces[i], best, ids);
}

}  // namespace infalign::text
