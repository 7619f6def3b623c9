#include "pipeline/report/roofline.h"

#include <fmt/format.h>

#include <algorithm>

namespace vi::report {

std::vector<Plot> roofline_plots(const std::vector<Json>& timings) {
  Plot plot;
  plot.title = "Decode attention, one layer: bytes read a step against time";
  plot.x_label = "MB a step (log scale)";
  plot.y_label = "ms (log scale)";
  plot.log_x = plot.log_y = true;
  double low = 0, high = 0, copy_gb_s = 0;
  for (const Json& line : timings) {
    const char* name_key = line.contains("name") ? "name" : "contender";
    if (!line.contains(name_key) || !line.contains("bytes") || !line.contains("ms") || !line.contains("copy_gb_s")) continue;
    const double mb = 1e-6 * line.at("bytes").get<double>(), ms = line.at("ms").get<double>();
    if (!(mb > 0 && ms > 0)) continue;
    const std::string name = line.at(name_key);
    auto series = std::find_if(plot.series.begin(), plot.series.end(), [&](const Series& s) { return s.name == name; });
    if (series == plot.series.end()) series = plot.series.insert(plot.series.end(), Series{name, {}, Series::Style::line, {}});
    series->points.emplace_back(mb, ms);
    low = low == 0 ? mb : std::min(low, mb);
    high = std::max(high, mb);
    copy_gb_s = std::max(copy_gb_s, line.at("copy_gb_s").get<double>());
  }
  if (plot.series.empty() || !(copy_gb_s > 0)) return {};
  for (Series& series : plot.series) std::sort(series.points.begin(), series.points.end());
  // 1 GB/s is 1 MB a ms.
  plot.series.push_back({fmt::format("copy, {:.0f} GB/s", copy_gb_s), {{low, low / copy_gb_s}, {high, high / copy_gb_s}}, Series::Style::line, {}});
  return {plot};
}

}  // namespace vi::report
