#include "pipeline/report/page.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "core/common/error.h"
#include "pipeline/report/heatmap.h"
#include "pipeline/report/plot.h"
#include "pipeline/report/ranking.h"
#include "pipeline/report/roofline.h"

namespace vi::report {
namespace {

std::vector<std::string> distinct(const std::vector<Json>& lines, const char* key) {
  std::vector<std::string> values;
  for (const Json& line : lines) {
    const std::string value = line.at(key);
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

const Json* find_line(const Content& content, const std::string& method, const std::string& task) {
  for (const Json& line : content.results)
    if (line.at("method") == method && line.at("task") == task) return &line;
  return nullptr;
}

std::string number(double value, int digits) { return fmt::format("{:.{}f}", value, digits); }

bool is_perplexity(const Json& line) { return line.at("metric") == "perplexity"; }

std::string score_cell(const Json& line) {
  const double score = line.at("score"), error = line.at("stderr").is_null() ? 0.0 : line.at("stderr").get<double>();
  if (is_perplexity(line)) return number(score, score < 100 ? 2 : 0);
  return fmt::format("{:.1f} ± {:.1f}", 100 * score, 100 * error);
}

std::string mebibytes(std::int64_t bytes) {
  return bytes == 0 ? "-" : number(static_cast<double>(bytes) / 1048576.0, bytes < 10 << 20 ? 2 : 1);
}

// Points that no other beats in both bits and `better` (a score where less is better).
Series pareto_front(const std::vector<Series>& points, bool less) {
  std::vector<std::pair<double, double>> sorted;
  for (const Series& series : points) sorted.push_back(series.points.front());
  std::sort(sorted.begin(), sorted.end(), [&](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : less ? a.second < b.second : a.second > b.second;
  });
  Series front{"Pareto front", {}, Series::Style::line, {}};
  for (const auto& point : sorted)
    if (front.points.empty() || (less ? point.second < front.points.back().second : point.second > front.points.back().second))
      front.points.push_back(point);
  return front;
}

constexpr const char* kBitsLabel = "total bits an element (payload, metadata, window)";

// A point a method, the front, and the exact cache as a line.
Plot against_bits(const std::string& title, const std::string& y_label, const std::vector<std::tuple<std::string, double, double>>& rows,
                  std::optional<double> fp16, bool less, bool log_y) {
  Plot plot;
  plot.title = title;
  plot.x_label = kBitsLabel;
  plot.y_label = y_label;
  plot.log_y = log_y;
  plot.height = 520;
  double most = 0;
  for (const auto& [name, bits, value] : rows) {
    plot.series.push_back({name, {{bits, value}}, Series::Style::points, {}});
    most = std::max(most, bits);
  }
  if (rows.size() > 2) plot.series.push_back(pareto_front(plot.series, less));
  if (fp16) plot.series.push_back({"fp16", {{0.9, *fp16}, {most + 0.5, *fp16}}, Series::Style::line, {}});
  return plot;
}

std::vector<Plot> score_plots(const Content& content) {
  std::vector<Plot> plots;
  for (const std::string& task : distinct(content.results, "task")) {
    std::vector<std::tuple<std::string, double, double>> rows;
    std::optional<double> fp16;
    bool perplexity = false, positive = true;
    for (const Json& line : content.results) {
      if (line.at("task") != task) continue;
      perplexity = is_perplexity(line);
      const double bits = line.at("bits_total"), score = line.at("score").get<double>() * (perplexity ? 1 : 100);
      positive = positive && score > 0;
      if (bits >= 15.9)
        fp16 = score;
      else
        rows.emplace_back(line.at("method"), bits, score);
    }
    if (rows.empty()) continue;
    plots.push_back(perplexity ? against_bits("Perplexity against bits: " + task, "perplexity (log scale, lower is better)", rows, fp16, true, positive)
                               : against_bits("Score against bits: " + task, "score, per cent (higher is better)", rows, fp16, false, false));
  }
  return plots;
}

// The first task of each method that has errors: method, total bits, metrics.
std::vector<std::tuple<std::string, double, const Json*>> with_errors(const Content& content, const char* key) {
  std::vector<std::tuple<std::string, double, const Json*>> found;
  for (const Json& line : content.results) {
    const std::string method = line.at("method");
    const auto metrics = content.metrics.find(method + "\t" + line.at("task").get<std::string>());
    const bool drawn = std::any_of(found.begin(), found.end(), [&](const auto& one) { return std::get<0>(one) == method; });
    if (!drawn && metrics != content.metrics.end() && metrics->second.contains(key)) found.emplace_back(method, line.at("bits_total"), &metrics->second);
  }
  return found;
}

std::vector<Plot> error_against_bits(const Content& content) {
  std::vector<std::tuple<std::string, double, double>> rows;
  for (const auto& [method, bits, metrics] : with_errors(content, "output_error")) {
    double sum = 0;
    int n = 0;
    for (const Json& layer : metrics->at("output_error"))
      for (const Json& head : layer) sum += head.get<double>(), ++n;
    if (n > 0 && sum > 0) rows.emplace_back(method, bits, sum / n);
  }
  if (rows.empty()) return {};
  return {against_bits("Error of the attention output against bits", "relative squared error, mean of layers and heads (log scale)", rows, {}, true, true)};
}

std::vector<Plot> time_against_bits(const Content& content) {
  std::int64_t longest = 0;
  for (const Json& line : content.timings)
    if (line.contains("bits") && line.contains("ms")) longest = std::max(longest, line.value("kv_len", std::int64_t{0}));
  std::vector<std::tuple<std::string, double, double>> rows;
  for (const Json& line : content.timings)
    if (line.contains("bits") && line.contains("ms") && line.contains("name") && line.value("kv_len", std::int64_t{0}) == longest)
      rows.emplace_back(line.at("name"), line.at("bits"), line.at("ms"));
  if (rows.empty()) return {};
  Plot plot = against_bits(fmt::format("Attention time against bits, {} tokens", longest), "ms, one layer, one token (log scale)", rows, {}, true, true);
  plot.x_label = "bits of a key or value element (payload)";
  return {plot};
}

std::string sensitivity_maps(const Content& content) {
  std::vector<HeatMap> maps;
  for (const auto& [method, bits, metrics] : with_errors(content, "output_error"))
    maps.push_back({method, metrics->at("output_error").get<std::vector<std::vector<double>>>()});
  return heatmaps_svg(maps);
}

std::string ranking_section(const Content& content) {
  const Ranking ranking = rank_methods(content.results, content.samples);
  if (ranking.rows.empty()) return "";
  std::string text = fmt::format("Mean rank over {} task{}; bars hold the middle 95 % of 1000 resamples of windows and answers, the same ones for every method.",
                                 ranking.tasks, ranking.tasks == 1 ? "" : "s");
  if (ranking.left_out > 0) text += fmt::format(" {} left out: not every method has them alike.", ranking.left_out);
  if (ranking.critical)
    text += fmt::format(" Friedman's chi-square {:.1f} with {} degrees of freedom; ranks closer than {:.2f} (Nemenyi, 5 %) are not told apart: those level with the best are orange.",
                        ranking.friedman, ranking.rows.size() - 1, *ranking.critical);
  else
    text += " No critical difference below five tasks.";
  return "<h2>Ranking</h2>\n<p>" + html_escape(text) + "</p>\n<figure>" + ranking_svg(ranking) + "</figure>\n";
}

std::vector<Plot> outlier_plots(const Content& content) {
  std::vector<Plot> plots;
  if (!content.outliers.is_object()) return plots;
  for (const Json& stage : content.outliers.at("stages")) {
    Plot plot;
    plot.title = fmt::format("Key channels of layer {}, {}", content.outliers.at("layer").get<int>(),
                             stage.at("name").get<std::string>());
    plot.x_label = "channel (KV head x head_dim)";
    plot.y_label = "largest magnitude";
    Series series;
    series.style = Series::Style::impulses;
    double x = 0;
    for (const Json& value : stage.at("absmax")) series.points.emplace_back(x++, value.get<double>());
    plot.series.push_back(series);
    plot.height = 260;
    plots.push_back(plot);
  }
  return plots;
}

std::vector<Plot> error_plots(const Content& content) {
  std::vector<Plot> plots;
  for (const auto& [key, title] : {std::pair{"key_error", "Key"}, std::pair{"value_error", "Value"}}) {
    Plot plot;
    plot.title = fmt::format("{} error per layer, on the evaluation text", title);
    plot.x_label = "layer";
    plot.y_label = "relative squared error";
    plot.height = 460;
    std::vector<std::string> drawn;
    for (const Json& line : content.results) {
      const std::string method = line.at("method");
      if (std::find(drawn.begin(), drawn.end(), method) != drawn.end()) continue;
      const auto found = content.metrics.find(method + "\t" + line.at("task").get<std::string>());
      if (found == content.metrics.end() || !found->second.contains(key)) continue;
      Series series;
      series.name = method;
      double layer = 0;
      for (const Json& value : found->second.at(key)) series.points.emplace_back(layer++, value.get<double>());
      if (series.points.empty()) continue;
      drawn.push_back(method);
      plot.series.push_back(series);
    }
    if (!plot.series.empty()) plots.push_back(plot);
  }
  return plots;
}

std::vector<Plot> memory_plots(const Content& content) {
  if (!content.memory.is_array() || content.memory.empty()) return {};
  Plot plot;
  plot.title = "Cache memory against context length (batch 1)";
  plot.x_label = "tokens (log scale)";
  plot.y_label = "MiB (log scale)";
  plot.log_x = plot.log_y = true;
  plot.height = 460;
  for (const Json& row : content.memory) {
    Series series;
    series.name = row.at("method");
    for (const Json& point : row.at("points")) series.points.emplace_back(point[0].get<double>(), point[1].get<double>());
    plot.series.push_back(series);
  }
  return {plot};
}

std::vector<Plot> timing_plots(const Content& content) {
  Plot plot;
  plot.title = "Decode attention, one layer, one token";
  plot.x_label = "kv_len (log scale)";
  plot.y_label = "ms (log scale)";
  plot.log_x = plot.log_y = true;
  for (const Json& line : content.timings) {
    if (!line.contains("kv_len") || !line.contains("ms") || !line.contains("name")) continue;
    const std::string name = line.at("name");
    auto series = std::find_if(plot.series.begin(), plot.series.end(), [&](const Series& s) { return s.name == name; });
    if (series == plot.series.end()) series = plot.series.insert(plot.series.end(), Series{name, {}, Series::Style::line, {}});
    series->points.emplace_back(line.at("kv_len").get<double>(), line.at("ms").get<double>());
  }
  if (plot.series.empty()) return {};
  return {plot};
}

void section(std::string& html, const std::string& title, const std::string& text, const std::vector<Plot>& plots) {
  if (plots.empty()) return;
  html += "<h2>" + html_escape(title) + "</h2>\n<p>" + html_escape(text) + "</p>\n";
  for (const Plot& plot : plots) {
    html += "<figure>";
    if (gnuplot_available())
      html += draw_svg(plot);
    else
      html += "<p>" + html_escape(plot.title) + ": gnuplot is not installed (make setup)</p>";
    html += "</figure>\n";
  }
}

// What the ablation shows here, in words made from the numbers themselves.
std::string ablation_text(const Content& content) {
  std::string text;
  for (const std::string& task : distinct(content.results, "task")) {
    std::vector<std::pair<double, std::string>> order;
    for (const auto& [name, method] : {std::pair{"plain VQ", "plain-2"}, {"smooth", "smooth-2"}, {"Hadamard", "hadamard-2"},
                                       {"Hadamard then smooth", "hadamard-smooth-2"}, {"smooth then Hadamard (VecInfer)", "vecinfer-2"}})
      if (const Json* line = find_line(content, method, task); line && is_perplexity(*line))
        order.emplace_back(line->at("score").get<double>(), name);
    if (order.size() < 3) continue;
    std::sort(order.begin(), order.end());
    text += fmt::format("In {}, from best to worst: ", task);
    for (std::size_t i = 0; i < order.size(); ++i)
      text += fmt::format("{}{} ({:.2f})", i ? ", " : "", order[i].second, order[i].first);
    text += ". ";
  }
  if (!text.empty())
    text += "The paper's order on its 8B and 14B models (Table 4, LongBench) is, from best to worst: smooth then Hadamard, "
            "Hadamard then smooth, Hadamard, smooth, plain. Where the two differ, the numbers here are what this model shows.";
  return text;
}

constexpr const char* kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}"
    "th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}figure{margin:1rem 0}svg{max-width:100%;height:auto}"
    ".scroll{overflow-x:auto}";

}  // namespace

Table result_table(const Content& content) {
  const std::vector<std::string> methods = distinct(content.results, "method");
  const std::vector<std::string> tasks = distinct(content.results, "task");
  Table table;
  table.header = {"method", "K bits", "V bits", "total", "codebook MiB", "fidelity"};
  table.header.insert(table.header.end(), tasks.begin(), tasks.end());
  for (const std::string& method : methods) {
    std::vector<std::string> row{method};
    for (const std::string& task : tasks) {
      const Json* line = find_line(content, method, task);
      if (line && row.size() == 1) {
        row.push_back(number(line->at("key_bits"), 2));
        row.push_back(number(line->at("value_bits"), 2));
        row.push_back(number(line->at("bits_total"), 2));
        row.push_back(mebibytes(line->at("codebook_bytes")) + (line->value("codebook_marked", false) ? "*" : ""));
        const auto fidelity = content.fidelity.find(method);
        row.push_back(fidelity == content.fidelity.end() ? "" : fidelity->second);
      }
      row.push_back(line ? score_cell(*line) : "-");
    }
    table.rows.push_back(row);
  }
  return table;
}

std::string html_page(const Content& content) {
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                     "content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\"><title>";
  html += html_escape(content.experiment) + "</title><style>" + kStyle + "</style></head>\n<body>\n<h1>" +
          html_escape(content.experiment) + "</h1>\n<p>" + html_escape(content.description) + "</p>\n<p>Model " +
          html_escape(content.model) + ", " + html_escape(content.device) + ", commit " + html_escape(content.git) + ".</p>\n";
  html += "<h2>Results</h2>\n<div class=\"scroll\">" + result_table(content).html() + "</div>\n";
  html += "<p>Perplexity: lower is better. K and V bits are payload; total adds metadata (scales, zero points) and the exact "
          "window, counted at 32768 tokens of one sequence; codebooks and static transforms stand beside, * where they pass 5 % "
          "of the weights.</p>\n";
  if (!content.note.empty()) html += "<p>" + html_escape(content.note) + "</p>\n";
  for (const std::string& text : content.comparisons)
    html += "<div class=\"scroll\"><pre>" + html_escape(text) + "</pre></div>\n";
  if (const std::string text = ablation_text(content); !text.empty()) html += "<p>" + html_escape(text) + "</p>\n";
  for (const std::string& failure : content.failures) html += "<p><b>" + html_escape(failure) + "</b></p>\n";
  section(html, "Score against bits", "Each point is a method; lines are the Pareto front and the exact cache.", score_plots(content));
  html += ranking_section(content);
  section(html, "Key outliers", "The largest magnitude of each key channel over the calibration sample, before and after each "
          "transform (the paper's Figures 1 and 10).", outlier_plots(content));
  section(html, "Error per layer", "Squared error of the reconstruction over squared norm, on the evaluation text.", error_plots(content));
  if (const std::string maps = sensitivity_maps(content); !maps.empty())
    html += "<h2>Sensitivity of layers and heads</h2>\n<p>Relative squared error of the attention output of each KV head's queries with all of its keys "
            "and values coded, on the evaluation text: layers from left to right, KV heads from top to bottom, one logarithmic scale.</p>\n<figure>" +
            maps + "</figure>\n";
  section(html, "Error against bits", "One point a method.", error_against_bits(content));
  section(html, "Cache memory", "Packed codes, scales and the exact window of all layers, codebooks not included.", memory_plots(content));
  section(html, "Attention time", "32 query and 8 KV heads, head_dim 128; medians.", timing_plots(content));
  section(html, "Time against bits", "Contenders of the same run; packed codes of vecinfer's kernels, dense libraries at 16 and 32 bits.", time_against_bits(content));
  section(html, "Roofline", "A step reads all keys and values (or their codes) once; a copy of as many bytes bounds it from below. "
          "Same runs as above.", roofline_plots(content.timings));
  return html + "</body></html>\n";
}

}  // namespace vi::report
