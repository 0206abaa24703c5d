// The few pieces of HTML the report is made of. Every text that comes from a model, a prompt or a file passes
// through escape().
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/stages/report/evaluation_record.h"

namespace infalign::stages {

/// For element content and quoted attributes; control characters that HTML forbids become U+FFFD.
std::string escape(std::string_view text);

/// A fixed number of decimals with a true minus sign, or a dash for a missing number.
std::string number(double value, int decimals = 3);
/// With an explicit sign.
std::string signed_number(double value, int decimals = 3);
/// As many digits as a reader needs of a number of any size: 12, 0.34, 5.6e-07.
std::string short_number(double value);
/// "1 min 12 s".
std::string duration(double seconds);

/// The value and, smaller, its interval.
std::string estimate_html(const Estimate& estimate, int decimals = 3);
std::string signed_estimate_html(const Estimate& estimate, int decimals = 3);

/// A table whose cells are HTML already; the first column names the row, the others are numbers. It scrolls
/// when the page is narrow.
struct DataTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};
std::string table_html(const DataTable& table, std::string_view css_class = "");

}  // namespace infalign::stages
