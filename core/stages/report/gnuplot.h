// Drawing by gnuplot, as a program beside this one: it gets a script in a file and gives SVG back. No shell
// is involved, and the colours it writes are names of the page's own style variables, so that one picture
// serves the light and the dark page.
#pragma once

#include <string>

namespace infalign::stages {

/// What a mark is, for the page's style to colour. A series is a variant, by its place in the run.
enum class Ink { kText, kMuted, kGrid, kSurface, kNeutral, kSeries };

/// The colour to write behind gnuplot's `lc`, `textcolor`, `fc`: a code which draw() turns into the style
/// variable. `opacity` in (0, 1] only for lines and fills.
std::string gnuplot_colour(Ink ink, std::size_t series = 0, double opacity = 1);

/// The style variable of a series, e.g. "--series-2"; there are kSeriesColours, then they repeat.
constexpr std::size_t kSeriesColours = 6;
std::string series_variable(std::size_t series);

/// A text as a gnuplot string, quoted so that nothing in it is interpreted.
std::string gnuplot_quote(const std::string& text);

struct Drawing {
  std::string svg;      // an <svg> element, "" if it could not be drawn
  std::string trouble;  // why not
};

/// Runs `program` on the script. `id` sets this drawing's element names apart from those of other drawings on
/// the page. Never throws: a page without a picture is better than a run without a page.
Drawing draw(const std::string& program, const std::string& script, const std::string& id);

}  // namespace infalign::stages
