#include "core/stages/report/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/stages/report/gnuplot.h"

namespace infalign::stages {
namespace {

constexpr int kPointTypes[] = {7,  5, 9, 11,
                               13, 15};  // disc, square, triangles, diamond, pentagon: colour is never alone

/// Thin axes and hairlines: the data is what stands out.
std::string preamble(int width, int height) {
  return fmt::format(
      "set terminal svg size {},{} dynamic noenhanced font 'sans-serif,13'\n"
      "set encoding utf8\n"
      "unset key\n"
      "set border 1 lw 1 lc {}\n"
      "set tics nomirror scale 0.4 textcolor {}\n"
      "set format x '%g'\nset format y '%g'\n"
      "set grid ytics lt 1 lw 1 lc {}\n",
      width, height, gnuplot_colour(Ink::kMuted), gnuplot_colour(Ink::kMuted), gnuplot_colour(Ink::kGrid));
}

std::string labels(const std::string& x, const std::string& y) {
  return fmt::format("set xlabel {} textcolor {}\nset ylabel {} textcolor {}\n", gnuplot_quote(x),
                     gnuplot_colour(Ink::kMuted), gnuplot_quote(y), gnuplot_colour(Ink::kMuted));
}

double win_rate(const CurvePoint& point, Measure measure) {
  return measure == Measure::kInferenceWinRate ? point.inference_win_rate : point.standard_win_rate;
}

const Estimate& win_rate(const VariantRecord& variant, Measure measure) {
  return measure == Measure::kInferenceWinRate ? variant.inference_win_rate : variant.standard_win_rate;
}

/// The variant whose colour a transform's curve takes; none if no variant was trained with it.
std::optional<std::size_t> variant_with_transform(const EvaluationRecord& evaluation,
                                                  const std::string& transform) {
  for (std::size_t i = 0; i < evaluation.variants.size(); ++i) {
    if (evaluation.variants[i].transform == transform) return i;
  }
  return std::nullopt;
}

/// The part of a curve that the picture shows: KL up to `last`, where it is interpolated, so that all curves
/// end at one border.
std::vector<CurvePoint> visible_part(const Curve& curve, Measure measure, double last) {
  std::vector<CurvePoint> points;
  for (const CurvePoint& point : curve.points) {
    if (std::isfinite(point.kl) && std::isfinite(win_rate(point, measure))) points.push_back(point);
  }
  std::sort(points.begin(), points.end(), [](const auto& a, const auto& b) { return a.kl < b.kl; });
  const auto beyond =
      std::find_if(points.begin(), points.end(), [&](const auto& point) { return point.kl > last; });
  if (beyond == points.end() || beyond == points.begin()) {
    points.erase(beyond, points.end());
    return points;
  }
  const CurvePoint a = *std::prev(beyond), b = *beyond;
  const double t = (last - a.kl) / (b.kl - a.kl);
  points.erase(beyond, points.end());
  points.push_back({last, a.standard_win_rate + t * (b.standard_win_rate - a.standard_win_rate),
                    a.inference_win_rate + t * (b.inference_win_rate - a.inference_win_rate)});
  return points;
}

struct Label {
  double y = 0;
  std::string text, colour;
};

/// Labels at the right border, pushed apart where they would overlap, none above `highest`.
std::string border_labels(std::vector<Label> labels, double gap, double highest) {
  std::sort(labels.begin(), labels.end(), [](const auto& a, const auto& b) { return a.y < b.y; });
  for (int round = 0; round < 100; ++round) {
    for (std::size_t i = 1; i < labels.size(); ++i) {
      const double overlap = gap - (labels[i].y - labels[i - 1].y);
      if (overlap > 0) labels[i].y += overlap / 2, labels[i - 1].y -= overlap / 2;
    }
  }
  for (std::size_t i = labels.size(); i-- > 0; highest -= gap)
    highest = labels[i].y = std::min(labels[i].y, highest);
  std::string script;
  for (const Label& label : labels) {
    script += fmt::format("set label {} at graph 1, first {:.6f} offset char 0.6,0 left textcolor {}\n",
                          gnuplot_quote(label.text), label.y, label.colour);
  }
  return script;
}

DataTable win_rate_numbers(const std::vector<VariantRecord>& variants, Measure measure,
                           const std::vector<Curve>& curves) {
  DataTable table{{"", "KL", "win rate"}, {}};
  for (const VariantRecord& variant : variants) {
    table.rows.push_back({escape(variant.name) + " (measured)", estimate_html(variant.kl),
                          estimate_html(win_rate(variant, measure))});
  }
  constexpr std::size_t kShown = 6;
  for (const auto& [transform, points] : curves) {
    for (std::size_t i = 0; i < kShown && !points.empty(); ++i) {
      const CurvePoint& point = points[(points.size() - 1) * (i + 1) / kShown];
      table.rows.push_back(
          {escape(transform) + " (closed form)", number(point.kl), number(win_rate(point, measure))});
    }
  }
  return table;
}

std::string data_block(const std::string& name, const std::vector<std::pair<double, double>>& points) {
  std::string block = fmt::format("${} << EOD\n", name);
  for (const auto& [x, y] : points) block += fmt::format("{:.9g} {:.9g}\n", x, y);
  return block + "EOD\n";
}

struct CurveInk {
  std::string colour;
  const char *width, *dash;
};
/// What the picture shows: KL from 0, and at least this range of win rates.
struct Frame {
  double last_kl, lowest, highest;
};
struct CurvePlot {
  std::string script, plots;  // the frame and the data; what to plot
  std::vector<Curve> shown;   // as far as the picture shows them
};

/// The curves of win rate against KL, each with its name at the right border.
CurvePlot plot_curves(const std::vector<Curve>& curves, Measure measure, Frame frame,
                      const std::function<CurveInk(std::size_t, const std::string&)>& ink_of) {
  CurvePlot plot;
  for (const Curve& curve : curves) {
    auto points = visible_part(curve, measure, frame.last_kl);
    if (points.empty()) continue;
    for (const CurvePoint& point : points) {
      frame.lowest = std::min(frame.lowest, win_rate(point, measure));
      frame.highest = std::max(frame.highest, win_rate(point, measure));
    }
    plot.shown.push_back({curve.transform, std::move(points)});
  }
  frame.lowest = std::floor(frame.lowest * 20 + 1e-9) / 20;
  frame.highest = std::min(1.0, std::ceil(frame.highest * 20 - 1e-9) / 20);

  plot.script = preamble(560, 400) + labels("KL divergence from the reference policy (nats)", "win rate");
  std::size_t longest = 12;
  for (const Curve& curve : plot.shown) longest = std::max(longest, curve.transform.size());
  plot.script += fmt::format("set xrange [0:{:.6f}]\nset yrange [{:.6f}:{:.6f}]\nset rmargin {}\n",
                             frame.last_kl, frame.lowest, frame.highest, longest * 3 / 4 + 3);
  plot.plots = fmt::format("0.5 with lines lw 1 dt 3 lc {}", gnuplot_colour(Ink::kMuted));
  std::vector<Label> at_border;
  for (std::size_t i = 0; i < plot.shown.size(); ++i) {
    const auto& [transform, points] = plot.shown[i];
    const CurveInk ink = ink_of(i, transform);
    std::vector<std::pair<double, double>> line;
    for (const CurvePoint& point : points) line.emplace_back(point.kl, win_rate(point, measure));
    plot.script += data_block(fmt::format("curve{}", i), line);
    plot.plots += fmt::format(", $curve{} with lines lw {} dt {} lc {}", i, ink.width, ink.dash, ink.colour);
    at_border.push_back({line.back().second, transform, ink.colour});
  }
  plot.script += border_labels(at_border, (frame.highest - frame.lowest) * 0.052, frame.highest);
  return plot;
}

std::vector<std::pair<double, double>> moving_average(const std::vector<std::pair<double, double>>& points) {
  const auto n = static_cast<std::ptrdiff_t>(points.size()), half = n / 32;
  std::vector<std::pair<double, double>> smooth;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const auto reach = std::min({half, i, n - 1 - i});  // symmetric, or a rising curve would lag at its ends
    double sum = 0;
    for (std::ptrdiff_t j = i - reach; j <= i + reach; ++j) sum += points[static_cast<std::size_t>(j)].second;
    smooth.emplace_back(points[static_cast<std::size_t>(i)].first, sum / static_cast<double>(2 * reach + 1));
  }
  return smooth;
}

}  // namespace

Figure win_rate_figure(const EvaluationRecord& evaluation, Measure measure) {
  const bool inference = measure == Measure::kInferenceWinRate;
  const std::string what = inference && evaluation.has_procedure() ? evaluation.procedure_name() + " win rate"
                                                                   : "Standard win rate";

  double last_kl = 0.5, lowest = 0.5, highest = 0.6;
  for (const VariantRecord& variant : evaluation.variants) {
    if (!variant.kl.known()) continue;
    last_kl = std::max(last_kl, std::max(variant.kl.value, std::fmax(variant.kl.high, 0)));
    lowest = std::fmin(lowest, std::fmin(win_rate(variant, measure).value, win_rate(variant, measure).low));
    highest =
        std::fmax(highest, std::fmax(win_rate(variant, measure).value, win_rate(variant, measure).high));
  }
  last_kl = std::ceil(last_kl * 1.5 * 5) / 5;
  const auto colour_of = [&](std::size_t, const std::string& transform) {
    const auto variant = variant_with_transform(evaluation, transform);
    return variant ? CurveInk{gnuplot_colour(Ink::kSeries, *variant), "2", "1"}
                   : CurveInk{gnuplot_colour(Ink::kNeutral), "1.5", "2"};
  };
  CurvePlot plot = plot_curves(evaluation.curves, measure, {last_kl, lowest, highest}, colour_of);
  std::string& script = plot.script;
  std::string& plots = plot.plots;
  for (std::size_t i = 0; i < evaluation.variants.size(); ++i) {
    const Estimate &x = evaluation.variants[i].kl, &y = win_rate(evaluation.variants[i], measure);
    if (!x.known() || !y.known()) continue;
    const auto or_value = [](double bound, double value) { return std::isfinite(bound) ? bound : value; };
    script += fmt::format("$point{} << EOD\n{:.9g} {:.9g} {:.9g} {:.9g} {:.9g} {:.9g}\nEOD\n", i, x.value,
                          y.value, or_value(x.low, x.value), or_value(x.high, x.value),
                          or_value(y.low, y.value), or_value(y.high, y.value));
    const std::string colour = gnuplot_colour(Ink::kSeries, i);
    plots += fmt::format(
        ", $point{0} with xyerrorbars pt 7 ps 0 lw 1.5 lc {1}, $point{0} using 1:2 with points pt {2} "
        "ps 1.15 lc {3}, $point{0} using 1:2 with points pt {2} ps 0.85 lc {1}",
        i, colour, kPointTypes[i % std::size(kPointTypes)], gnuplot_colour(Ink::kSurface));
  }
  script += "plot " + plots + "\n";
  return {inference ? "inference_win_rate" : "standard_win_rate", escape(what) + " against KL",
          what + " against KL divergence: closed-form curves and the measured point of each variant.", script,
          win_rate_numbers(evaluation.variants, measure, plot.shown)};
}

Figure closed_form_figure(const std::string& id, const std::string& what, const std::vector<Curve>& curves,
                          Measure measure, double last_kl) {
  const auto ink_of = [](std::size_t i, const std::string&) {
    return CurveInk{gnuplot_colour(Ink::kSeries, i), "2", i < kSeriesColours ? "1" : "2"};
  };
  const CurvePlot plot = plot_curves(curves, measure, {last_kl, 0.5, 0.6}, ink_of);
  return {id, escape(what) + " against KL",
          what + " against KL divergence: the most that each transform can reach.",
          plot.script + "plot " + plot.plots + "\n", win_rate_numbers({}, measure, plot.shown)};
}

std::vector<double> calibration_density(const CalibrationRecord& calibration, std::size_t bins) {
  std::vector<double> density(bins, 0.0);
  const bool discrete = calibration.mode != "global" && calibration.rollouts > 0;
  const double k = static_cast<double>(calibration.rollouts);
  const double mass = static_cast<double>(bins) /
                      static_cast<double>(std::max<std::size_t>(1, calibration.heldout_ranks.size()));
  for (const double rank : calibration.heldout_ranks) {
    const double clamped = std::clamp(rank, 0.0, 1.0);
    const double begin = discrete ? clamped * k / (k + 1) : clamped;
    const double end = discrete ? (clamped * k + 1) / (k + 1) : clamped;
    const auto bin_of = [&](double u) {
      return std::min(bins - 1, static_cast<std::size_t>(u * static_cast<double>(bins)));
    };
    if (!discrete) {
      density[bin_of(begin)] += mass;
      continue;
    }
    for (std::size_t bin = bin_of(begin); bin <= bin_of(end); ++bin) {
      const double left = static_cast<double>(bin) / static_cast<double>(bins);
      const double right = static_cast<double>(bin + 1) / static_cast<double>(bins);
      density[bin] += mass * std::max(0.0, std::min(end, right) - std::max(begin, left)) / (end - begin);
    }
  }
  return density;
}

Figure calibration_figure(const CalibrationRecord& calibration) {
  constexpr std::size_t kBins = 20;
  const std::vector<double> density = calibration_density(calibration, kBins);
  const double samples = static_cast<double>(calibration.heldout_ranks.size());
  const double spread =
      1.96 * std::sqrt((kBins - 1) / samples);  // of a bin's density under the uniform, binomial

  std::string script = preamble(560, 320) + labels("calibrated reward of fresh reference samples", "density");
  const double highest =
      std::max({1.5, 1 + 1.5 * spread, 1.1 * *std::max_element(density.begin(), density.end())});
  script += fmt::format(
      "set xrange [0:1]\nset yrange [0:{:.6f}]\nset xtics 0.25\nset boxwidth {:.6f}\n"
      "set style fill solid 1 noborder\n",
      highest, 0.86 / kBins);
  script += fmt::format(
      "set object rectangle from 0,{:.6f} to 1,{:.6f} behind fillcolor {} fillstyle solid 1 noborder\n",
      std::max(0.0, 1 - spread), 1 + spread, gnuplot_colour(Ink::kGrid));
  std::vector<std::pair<double, double>> bars;
  DataTable numbers{{"calibrated reward", "density"}, {}};
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    bars.emplace_back((static_cast<double>(bin) + 0.5) / kBins, density[bin]);
    numbers.rows.push_back({number(static_cast<double>(bin) / kBins, 2) + " to " +
                                number(static_cast<double>(bin + 1) / kBins, 2),
                            number(density[bin])});
  }
  script += data_block("bars", bars);
  script += fmt::format("plot $bars with boxes lc {}, 1 with lines lw 1.5 dt 2 lc {}\n",
                        gnuplot_colour(Ink::kSeries, 0, 0.75), gnuplot_colour(Ink::kText));
  return {"calibration", "Calibrated rewards of the reference policy",
          "Histogram of calibrated rewards of fresh reference samples with the uniform density as a line.",
          script, numbers};
}

Figure training_figure(const std::string& id, const std::string& title,
                       const std::vector<TrainingSeries>& series, std::optional<double> target) {
  std::string script =
      preamble(540, 300) + fmt::format("set xlabel 'step' textcolor {}\n", gnuplot_colour(Ink::kMuted));
  script += "set xtics autofreq\nset yrange [*:*]\n";
  double smallest = INFINITY, largest = -INFINITY;
  for (const TrainingSeries& one : series) {
    for (const auto& [step, value] : one.points) {
      smallest = std::min(smallest, value);
      largest = std::max(largest, value);
    }
  }
  if (smallest > 0 && largest > 50 * smallest) script += "set logscale y\nset format y '%.0e'\n";
  std::string plots;
  if (target) plots += fmt::format("{:.9g} with lines lw 1 dt 2 lc {}", *target, gnuplot_colour(Ink::kText));
  DataTable numbers{{"step"}, {}};
  for (std::size_t i = 0; i < series.size(); ++i) {
    script += data_block(fmt::format("steps{}", i), series[i].points);
    script += data_block(fmt::format("smooth{}", i), moving_average(series[i].points));
    plots += fmt::format("{}$steps{} with lines lw 1 lc {}", plots.empty() ? "" : ", ", i,
                         gnuplot_colour(Ink::kSeries, series[i].colour, 0.25));
  }
  for (std::size_t i = 0; i < series.size(); ++i) {
    plots +=
        fmt::format(", $smooth{} with lines lw 2 lc {}", i, gnuplot_colour(Ink::kSeries, series[i].colour));
    numbers.header.push_back(series[i].name.empty() ? "value" : escape(series[i].name));
  }
  constexpr std::size_t kShown = 8;
  const std::size_t steps = series.empty() ? 0 : series.front().points.size();
  for (std::size_t row = 0; row < std::min(kShown, steps); ++row) {
    const std::size_t at = steps <= kShown ? row : (steps - 1) * row / (kShown - 1);
    numbers.rows.push_back({short_number(series.front().points[at].first)});
    for (const TrainingSeries& one : series) {
      numbers.rows.back().push_back(at < one.points.size() ? short_number(one.points[at].second)
                                                           : short_number(kMissing));
    }
  }
  return {id, title, "A curve for each variant over the steps of training.", script + "plot " + plots + "\n",
          numbers};
}

}  // namespace infalign::stages
