// The bytes of a file, inflated if it is gzip, in pieces of bounded size. Apart from records so that a
// truncated or damaged archive is told from a short file in one place: zlib's own gzread passes over garbage
// behind a member.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

namespace infalign::text {

/// Calls visit(bytes) with one piece of the file's content after another. A file that begins with gzip's two
/// magic bytes is gzip, of one or several members. Errors: InputError naming the file for one that cannot be
/// read, or for gzip that is truncated, damaged (CRC and length are checked), or followed by something else.
void for_each_block(const std::filesystem::path& path,
                    const std::function<void(std::string_view bytes)>& visit);

}  // namespace infalign::text
