#include "pipeline/report/plot.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "core/common/error.h"
#include "core/common/file.h"

namespace vi::report {
namespace {

// Palette of Okabe and Ito: told apart by colour-blind readers.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                    "#e69f00", "#56b4e9", "#000000", "#8c6d1f"};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + '"';
}

// The data's range with a margin; from 0 on a linear y axis.
std::string range_of(const Plot& plot, bool x) {
  double low = INFINITY, high = -INFINITY;
  for (const Series& series : plot.series)
    for (const auto& point : series.points) {
      const double value = x ? point.first : point.second;
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  if (!(low <= high)) return "";
  if (x ? plot.log_x : plot.log_y) {
    low *= 0.92;
    high *= 1.1;
  } else {
    const double margin = high > low ? 0.04 * (high - low) : 0.5;
    low = x ? low - margin : std::min(0.0, low);
    high += margin;
  }
  return fmt::format("set {}range [{}:{}]\n", x ? 'x' : 'y', low, high);
}

// Ticks of a logarithmic axis: gnuplot alone writes powers of ten only, and a plot may lie between two of them.
std::string log_ticks(const Plot& plot) {
  double low = INFINITY, high = 0;
  for (const Series& series : plot.series)
    for (const auto& [x, y] : series.points)
      if (std::isfinite(y) && y > 0) low = std::min(low, y), high = std::max(high, y);
  if (!(low <= high)) return "";
  // As few digits as leave at least three ticks.
  const std::vector<std::vector<double>> steps = {
      {1}, {1, 2, 5}, {1, 1.5, 2, 3, 5, 7}, {1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9}};
  std::string ticks;
  for (const auto& step : steps) {
    ticks.clear();
    int n = 0;
    for (int decade = -12; decade <= 12; ++decade)
      for (const double s : step) {
        const double value = s * std::pow(10.0, decade);
        if (value < 0.92 * low || value > 1.1 * high) continue;
        ticks += fmt::format("{}{:.10g}", n++ ? ", " : "", value);
      }
    if (n >= 3) break;
  }
  return ticks.empty() ? "" : "set ytics (" + ticks + ")\nset format y '%g'\n";
}

std::string script_of(const Plot& plot) {
  std::string s = fmt::format(
      "set terminal svg noenhanced size {},{} dynamic font 'sans-serif,13' background '#ffffff'\n"
      "set title {}\nset xlabel {}\nset ylabel {}\nset grid lc rgb '#d0d0d0'\nset border 3\nset tics nomirror\n"
      "set key outside right top vertical samplen 2 spacing 1.1\nset lmargin 10\n",
      plot.width, plot.height, quoted(plot.title), quoted(plot.x_label), quoted(plot.y_label));
  if (plot.log_x) s += "set logscale x 2\nset format x '%.0f'\n";
  if (plot.log_y) s += "set logscale y\n" + log_ticks(plot);
  s += range_of(plot, true) + range_of(plot, false);
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    s += fmt::format("$d{} << EOD\n", i);
    const Series& series = plot.series[i];
    for (std::size_t p = 0; p < series.points.size(); ++p) {
      const auto [x, y] = series.points[p];
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      s += fmt::format("{} {} {}\n", x, y,
                       p < series.labels.size() ? quoted(series.labels[p]) : std::string("\"\""));
    }
    s += "EOD\n";
  }
  s += "plot ";
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    const Series& series = plot.series[i];
    const char* colour = kColours[i % std::size(kColours)];
    // Colour and symbol have periods without a common divisor: 88 series before one comes twice.
    constexpr int kPoints[] = {4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 3};
    const int point = kPoints[i % std::size(kPoints)];
    const std::string title = series.name.empty() ? "notitle" : "title " + quoted(series.name);
    std::string with;
    switch (series.style) {
      case Series::Style::line:
        with = fmt::format("with linespoints lw 2 pt {} ps 0.7 lc rgb '{}'", point, colour);
        break;
      case Series::Style::points: with = fmt::format("with points pt {} ps 1 lc rgb '{}'", point, colour); break;
      case Series::Style::impulses: with = fmt::format("with impulses lw 1 lc rgb '{}'", colour); break;
    }
    s += fmt::format("{}$d{} using 1:2 {} {}", i ? ", \\\n  " : "", i, with, title);
    if (!series.labels.empty())
      s += fmt::format(", \\\n  $d{} using 1:2:3 with labels offset 0.4,0.7 left font ',10' "
                       "tc rgb '#404040' notitle", i);
  }
  return s + "\n";
}

}  // namespace

bool gnuplot_available() {
  static const bool available = std::system("command -v gnuplot >/dev/null 2>&1") == 0;
  return available;
}

std::string draw_svg(const Plot& plot) {
  bool any = false;
  for (const Series& series : plot.series) any = any || !series.points.empty();
  if (!any) fail("plot '{}' has no points", plot.title);
  std::string folder = (std::filesystem::temp_directory_path() / "vecinfer-plot-XXXXXX").string();
  if (!::mkdtemp(folder.data())) fail<IoError>("no temporary folder for gnuplot");
  const std::filesystem::path scratch(folder);
  struct Cleanup {
    std::filesystem::path path;
    ~Cleanup() {
      std::error_code code;
      std::filesystem::remove_all(path, code);
    }
  } cleanup{scratch};
  write_file_atomic(scratch / "plot.gp", script_of(plot));
  const std::string command = fmt::format("gnuplot '{0}/plot.gp' > '{0}/plot.svg' 2> '{0}/err'", folder);
  const int status = std::system(command.c_str());
  if (status != 0) {
    std::string message = read_file(scratch / "err");
    for (char& c : message)
      if (c == '\n') c = ' ';
    fail("gnuplot could not draw '{}': {}", plot.title, message);
  }
  std::string svg = read_file(scratch / "plot.svg");
  const std::size_t start = svg.find("<svg");
  if (start == std::string::npos) fail("gnuplot drew no SVG for '{}'", plot.title);
  return svg.substr(start);
}

}  // namespace vi::report
