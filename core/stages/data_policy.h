// What of prompts and preferences is used, told alike for both: which side of a split by hash a prompt
// belongs to, and what is left of sequences that are too long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace infalign::stages {

/// A number in [0, 1) by the hash of a prompt's text, independent for different `which`.
double split_position(const std::string& prompt, std::uint32_t which);

/// True for the share `fraction` of all prompts that is held out: a prompt, and with it all its pairs, is on
/// one side, in whatever file it stands, and stays there when the fraction grows.
bool is_held_out(const std::string& prompt, double fraction);

/// Cuts the beginning of `ids` so that at most `most` stay; `bos`, if they begin with it, is one of those
/// that stay, since models lean on it. Returns whether anything was cut.
bool truncate_left(std::vector<std::int32_t>& ids, std::size_t most, std::optional<std::int32_t> bos = {});

/// "12 prompts" or "1 prompt".
std::string counted(std::int64_t count, const std::string& what);

}  // namespace infalign::stages
