// What every page of this program is made of: its frame with the style sheet, sections, and pictures with
// their numbers folded away. The report of a run and the page of a design share it.
#pragma once

#include <string>
#include <vector>

#include "core/stages/report/figures.h"

namespace infalign::stages {

/// A whole self-contained page; `title` is plain text, `body` HTML.
std::string page_html(const std::string& title, const std::string& body);

std::string section_html(const std::string& id, const std::string& title, const std::string& body);
std::string paragraph_html(const std::string& html);
/// An entry of a list of facts, inside <dl class="facts">.
std::string fact_html(const std::string& name, const std::string& value);

/// The picture, and its numbers folded away; without a picture the numbers stand open in its place. `gnuplot`
/// is the program that draws.
std::string figure_html(const Figure& figure, const std::string& gnuplot);
std::string figures_html(const std::vector<Figure>& figures, const std::string& gnuplot);

}  // namespace infalign::stages
