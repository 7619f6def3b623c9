// A line or scatter plot as data, drawn to SVG text by gnuplot in a child process.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace vi::report {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (x, y)
  enum class Style { line, points, impulses } style = Style::line;
  std::vector<std::string> labels;  // one a point, or empty
};

struct Plot {
  std::string title, x_label, y_label;  // labels carry units
  bool log_x = false, log_y = false;
  std::vector<Series> series;
  int width = 760, height = 420;
};

bool gnuplot_available();

// SVG markup without an XML prologue. Error if gnuplot is missing or fails.
std::string draw_svg(const Plot& plot);

}  // namespace vi::report
