// One value a layer and head as a map of colours, SVG markup.
#pragma once

#include <string>
#include <vector>

namespace vi::report {

struct HeatMap {
  std::string title;
  std::vector<std::vector<double>> values;  // [n_layers][n_heads], positive
};

// All on one logarithmic scale of colours (white: least, dark blue: most), with its ends written beneath; layers from left
// to right, heads from top to bottom. Each cell says its value where a pointer rests. "" if there is nothing positive.
std::string heatmaps_svg(const std::vector<HeatMap>& maps);

}  // namespace vi::report
