#include "core/stages/report/page.h"

#include <fmt/format.h>

#include "core/stages/report/gnuplot.h"
#include "core/stages/report/html.h"
#include "core/stages/report/style.h"

namespace infalign::stages {

std::string page_html(const std::string& title, const std::string& body) {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
         "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>" +
         escape(title) + "</title>\n<style>\n" + std::string(kStyle) + "</style></head>\n<body>\n" + body +
         "</body></html>\n";
}

std::string section_html(const std::string& id, const std::string& title, const std::string& body) {
  return fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n", id, title, body);
}

std::string paragraph_html(const std::string& html) { return "<p>" + html + "</p>\n"; }
std::string fact_html(const std::string& name, const std::string& value) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", name, value);
}

std::string figure_html(const Figure& figure, const std::string& gnuplot) {
  Drawing drawing = draw(gnuplot, figure.script, figure.id);
  std::string html = fmt::format("<figure class=\"card\"><figcaption>{}</figcaption>\n", figure.title);
  if (drawing.svg.empty()) {
    html += fmt::format("<p class=\"trouble\">No picture: {}. These are its numbers.</p>\n",
                        escape(drawing.trouble));
    return html + table_html(figure.numbers, "compact") + "</figure>\n";
  }
  drawing.svg.insert(4, fmt::format(" role=\"img\" aria-label=\"{}\"", escape(figure.description)));
  return html + drawing.svg + "<details><summary>Numbers</summary>" + table_html(figure.numbers, "compact") +
         "</details></figure>\n";
}

std::string figures_html(const std::vector<Figure>& figures, const std::string& gnuplot) {
  std::string html = "<div class=\"figures\">\n";
  for (const Figure& figure : figures) html += figure_html(figure, gnuplot);
  return html + "</div>\n";
}

}  // namespace infalign::stages
