// Plain text for a terminal: columns that line up, and lines of bounded length.
#pragma once

#include <string>
#include <vector>

namespace infalign::stages {

/// Left-aligned columns, two spaces apart; rows may be shorter than the first.
std::string aligned_columns(const std::vector<std::vector<std::string>>& rows);

/// Breaks lines at spaces, at most `width` characters each. Ends with a newline unless empty.
std::string wrapped_lines(const std::string& text, std::size_t width);

}  // namespace infalign::stages
