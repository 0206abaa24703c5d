#include "core/stages/report/html.h"

#include <fmt/format.h>

#include <cmath>

namespace infalign::stages {
namespace {

constexpr std::string_view kDash = "–", kMinus = "−";

/// Typeset: a true minus, and none before a number that is rounded to zero.
std::string with_true_minus(const std::string& text) {
  if (text.empty() || text.front() != '-') return text;
  const std::string digits = text.substr(1);
  const bool zero = digits.find_first_not_of("0.") == std::string::npos;
  return zero ? digits : std::string(kMinus) + digits;
}

std::string interval_html(const std::string& value, const Estimate& estimate, int decimals) {
  if (!std::isfinite(estimate.low) || !std::isfinite(estimate.high)) return value;
  return fmt::format("{} <span class=\"interval\">{} to {}</span>", value, number(estimate.low, decimals),
                     number(estimate.high, decimals));
}

}  // namespace

std::string escape(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      case '\n':
      case '\t':
        escaped += c;
        break;
      default: {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7F) {
          escaped += "\xEF\xBF\xBD";
        } else {
          escaped += c;
        }
      }
    }
  }
  return escaped;
}

std::string number(double value, int decimals) {
  return std::isfinite(value) ? with_true_minus(fmt::format("{:.{}f}", value, decimals)) : std::string(kDash);
}

std::string signed_number(double value, int decimals) {
  const std::string text = number(value, decimals);
  return value > 0 ? "+" + text : text;
}

std::string short_number(double value) {
  return std::isfinite(value) ? with_true_minus(fmt::format("{:.3g}", value)) : std::string(kDash);
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return std::string(kDash);
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

std::string estimate_html(const Estimate& estimate, int decimals) {
  return interval_html(number(estimate.value, decimals), estimate, decimals);
}

std::string signed_estimate_html(const Estimate& estimate, int decimals) {
  return interval_html(signed_number(estimate.value, decimals), estimate, decimals);
}

std::string table_html(const DataTable& table, std::string_view css_class) {
  std::string html = fmt::format("<div class=\"scroll\"><table class=\"{}\"><thead><tr>", css_class);
  for (const std::string& cell : table.header) html += fmt::format("<th scope=\"col\">{}</th>", cell);
  html += "</tr></thead><tbody>\n";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (std::size_t column = 0; column < row.size(); ++column) {
      html += column == 0 ? "<th scope=\"row\">" + row[column] + "</th>" : "<td>" + row[column] + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

}  // namespace infalign::stages
