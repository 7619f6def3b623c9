#include "pipeline/report/heatmap.h"

#include <algorithm>
#include <cmath>

#include "core/common/error.h"
#include "pipeline/report/table.h"

namespace vi::report {
namespace {

constexpr int kLeft = 260, kWidth = 760, kLine = 18;

// From white over light blue to dark blue; t in 0..1.
std::string colour(double t) {
  const double stops[3][3] = {{255, 255, 255}, {107, 174, 214}, {8, 48, 107}};
  const int from = t < 0.5 ? 0 : 1;
  const double part = 2 * t - from;
  int rgb[3];
  for (int c = 0; c < 3; ++c) rgb[c] = static_cast<int>(std::lround(stops[from][c] + part * (stops[from + 1][c] - stops[from][c])));
  return fmt::format("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2]);
}

}  // namespace

std::string heatmaps_svg(const std::vector<HeatMap>& maps) {
  double low = INFINITY, high = 0;
  for (const HeatMap& map : maps)
    for (const auto& layer : map.values)
      for (const double value : layer)
        if (value > 0 && std::isfinite(value)) low = std::min(low, value), high = std::max(high, value);
  if (!(high > 0)) return "";
  const double range = std::max(std::log(high / low), 1e-9);
  std::string body;
  int y = 8;
  for (const HeatMap& map : maps) {
    if (map.values.empty() || map.values[0].empty()) continue;
    const auto heads = static_cast<int>(map.values[0].size());
    const int cell = std::clamp(kLine * 2 / heads, 4, kLine);
    const double step = static_cast<double>(kWidth - kLeft - 10) / static_cast<double>(map.values.size());
    body += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", kLeft - 8, y + 13, html_escape(map.title));
    for (std::size_t layer = 0; layer < map.values.size(); ++layer)
      for (std::size_t head = 0; head < map.values[layer].size(); ++head) {
        const double value = map.values[layer][head];
        const double t = value > 0 && std::isfinite(value) ? std::clamp(std::log(value / low) / range, 0.0, 1.0) : 0;
        body += fmt::format("<rect x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" fill=\"{}\"><title>layer {}, KV head {}: {:.3g}</title></rect>",
                            kLeft + step * static_cast<double>(layer), y + cell * static_cast<int>(head), step, cell, colour(t), layer, head, value);
      }
    y += std::max(cell * heads, kLine) + 8;
  }
  for (int i = 0; i <= 40; ++i) body += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"6\" height=\"10\" fill=\"{}\"/>", kLeft + 6 * i, y + 4, colour(i / 40.0));
  body += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.2g}</text><text x=\"{}\" y=\"{}\">{:.2g}</text>", kLeft - 8, y + 13, low, kLeft + 254, y + 13, high);
  return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" font-family=\"sans-serif\" font-size=\"13\">{2}</svg>", kWidth, y + 24, body);
}

}  // namespace vi::report
