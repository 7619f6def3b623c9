#include "pipeline/report/honesty.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include <fmt/ranges.h>

#include "core/codec/method.h"
#include "core/common/error.h"
#include "pipeline/paths.h"

namespace vi::report {
namespace fs = std::filesystem;
namespace {

constexpr const char* kShape = "16x16384";  // sequences x tokens of the kernel column

enum Column { wikitext, other_text, needle, longbench, math, kColumns };
constexpr const char* kTitles[kColumns] = {"WikiText-2 perplexity", "perplexity, other text", "needle, %", "LongBench subset, %", "mathematics, %"};

std::optional<Column> column_of(const Json& row) {
  const std::string task = row.at("task"), metric = row.at("metric"), experiment = row.value("experiment", "");
  if (metric == "mean") return std::nullopt;  // made of other rows
  if (metric == "needle") return needle;
  if (task.starts_with("longbench/")) return longbench;
  if (metric == "math") return math;
  if (metric != "perplexity" || row.value("mode", "") != "window") return std::nullopt;
  return experiment.find("wikitext") != std::string::npos || task.find("wikitext") != std::string::npos ? wikitext : other_text;
}

bool usable(const Json& row) {
  for (const char* key : {"model", "method", "task", "metric"})
    if (!row.contains(key) || !row.at(key).is_string()) return false;
  for (const char* key : {"score", "bits_total"})
    if (!row.contains(key) || !row.at(key).is_number()) return false;
  return true;
}

// The bits that a row is compared at; 0: exact.
struct Class {
  const char* title;
  double below;
};
constexpr Class kClasses[] = {{"1", 1.125}, {"1.25", 1.375}, {"1.5", 1.75}, {"2", 2.35}, {"above 2", 15.9}, {"16", 1e9}};

std::size_t class_of(double bits) {
  std::size_t c = 0;
  while (bits >= kClasses[c].below) ++c;
  return c;
}

struct Cell {
  std::map<std::string, std::map<std::int64_t, double>> scores;  // by task and seed; the last line of both stands
  bool perplexity = false;
};

// One experiment; its methods may have run on different machines.
struct Source {
  std::string experiment;
  std::set<std::string> files;
  std::map<std::string, Cell> cells;  // by method
  std::set<std::string> tasks;
  std::int64_t n = 0;   // of one method
  std::size_t seeds = 0;  // of one cell at most
  std::string protocol;
};

std::string cell_text(const Cell& cell, std::size_t tasks) {
  if (cell.scores.size() != tasks) return "-";  // a mean over other tasks does not compare
  double mean = 0;
  for (const auto& [task, seeds] : cell.scores)
    for (const auto& [seed, score] : seeds) mean += score / static_cast<double>(tasks * seeds.size());
  if (cell.perplexity) return mean < 1000 ? fmt::format("{:.2f}", mean) : fmt::format("{:.0f}", mean);
  return fmt::format("{:.1f}", 100 * mean);
}

std::string kernel_text(const HonestyInput& input, const std::string& method) {
  if (method == "fp16") {
    for (const Json& row : input.kernels)
      if (row.value("case", "") == fmt::format("dense head_dim 128 {}", kShape)) return fmt::format("{:.3f} (dense)", row.at("ms").get<double>());
    return "-";
  }
  const KernelFact& fact = input.presets.at(method);
  if (!fact.fused) return "simulated";
  for (const Json& row : input.kernels)
    if (row.value("case", "") == fmt::format("{} {}", fact.shape, kShape)) {
      const std::string kernel = row.value("kernel", "");
      return fmt::format("{:.3f}{}", row.at("ms").get<double>(), kernel == "generic" ? " (generic)" : "");
    }
  return "-";
}

std::string count_text(const Json& row) {
  const Json protocol = row.value("protocol", Json::object());
  if (protocol.contains("windows")) return fmt::format("{} windows of {} tokens", protocol.at("windows").dump(), protocol.value("window", 0));
  return fmt::format("{} answers a task", row.value("n", 0));
}

}  // namespace

std::string honesty_markdown(const HonestyInput& input) {
  std::vector<std::string> models;
  std::map<std::string, std::map<std::string, double>> bits;                    // model -> method -> total bits
  std::map<std::string, std::map<int, std::vector<Source>>> all;                 // model -> column -> experiments
  for (const auto& [file, row] : input.results) {
    if (row.contains("point") || !usable(row) ||  // the points of a sweep differ in more than the method
         !input.presets.contains(row.at("method").get<std::string>())) continue;
    const auto column = column_of(row);
    if (!column) continue;
    const std::string model = row.at("model"), method = row.at("method"), experiment = row.value("experiment", "");
    if (std::find(models.begin(), models.end(), model) == models.end()) models.push_back(model);
    auto& sources = all[model][*column];
    auto source = std::find_if(sources.begin(), sources.end(), [&](const Source& s) { return s.experiment == experiment; });
    if (source == sources.end()) source = sources.insert(sources.end(), Source{experiment, {}, {}, {}, 0, 0, ""});
    source->files.insert(file);
    Cell& cell = source->cells[method];
    const std::int64_t seed = row.contains("seed") && row.at("seed").is_number_integer() ? row.at("seed").get<std::int64_t>() : 0;
    cell.scores[row.at("task").get<std::string>()][seed] = row.at("score").get<double>();
    source->seeds = std::max(source->seeds, cell.scores[row.at("task").get<std::string>()].size());
    cell.perplexity = row.at("metric") == "perplexity";
    source->tasks.insert(row.at("task").get<std::string>());
    source->n = std::max<std::int64_t>(source->n, row.value("n", std::int64_t{0}));
    source->protocol = count_text(row);
    bits[model][method] = row.at("bits_total");
  }
  std::sort(models.begin(), models.end());
  std::string out;
  for (const std::string& model : models) {
    const Source* chosen[kColumns] = {};
    std::set<std::string> methods;
    for (const auto& [column, sources] : all[model])
      for (const Source& source : sources) {
        const Source*& best = chosen[column];
        if (!best || std::pair(source.cells.size(), source.n) >= std::pair(best->cells.size(), best->n)) best = &source;
      }
    for (const Source* source : chosen)
      if (source)
        for (const auto& [method, cell] : source->cells) methods.insert(method);
    std::vector<std::string> order(methods.begin(), methods.end());
    std::stable_sort(order.begin(), order.end(), [&](const std::string& a, const std::string& b) {
      const double x = bits[model][a], y = bits[model][b];
      return class_of(x) != class_of(y) ? class_of(x) > class_of(y) : std::abs(x - y) > 0.005 ? x > y : a < b;
    });
    out += fmt::format("**{}**\n\n| bits | method | total bits |", model);
    for (const char* title : kTitles) out += fmt::format(" {} |", title);
    out += " attention, ms |\n|---|---|---|";
    for (int c = 0; c <= kColumns; ++c) out += "---|";
    out += "\n";
    for (const std::string& method : order) {
      out += fmt::format("| {} | {} | {:.2f} |", kClasses[class_of(bits[model][method])].title, method, bits[model][method]);
      for (const Source* source : chosen) {
        const auto cell = source ? source->cells.find(method) : std::map<std::string, Cell>::const_iterator{};
        out += fmt::format(" {} |", source && cell != source->cells.end() ? cell_text(cell->second, source->tasks.size()) : "-");
      }
      out += fmt::format(" {} |\n", kernel_text(input, method));
    }
    out += "\nFrom:";
    bool any = false;
    for (int c = 0; c < kColumns; ++c)
      if (chosen[c]) {
        out += fmt::format("{} {}: {} ({}; {}{}{})", any ? ";" : "", kTitles[c], fmt::join(chosen[c]->files, " and "), chosen[c]->experiment,
                           c == needle || c == longbench || c == math ? fmt::format("{} tasks, ", chosen[c]->tasks.size()) : "", chosen[c]->protocol,
                           chosen[c]->seeds > 1 ? fmt::format(", means of up to {} seeds", chosen[c]->seeds) : "");
        any = true;
      }
    out += ".\n\n";
  }
  return out + fmt::format(
                   "`-`: not measured. Bits: of a cache of 32768 tokens, payload + metadata + window. Attention: one layer, 16 sequences of 16384 tokens, "
                   "32 query and 8 KV heads of 128, on one H100 (results/reference/h100/decode_attention.jsonl); \"generic\": a fused kernel that is not "
                   "tuned for the shape; \"simulated\": no fused kernel, the codes are decoded for the exact attention.\n");
}

HonestyInput read_honesty(const fs::path& root) {
  HonestyInput input;
  const fs::path reference = root / "results" / "reference";
  std::vector<fs::path> files;
  std::error_code code;
  for (auto entry = fs::recursive_directory_iterator(reference, code); !code && entry != fs::recursive_directory_iterator(); entry.increment(code)) {
    if (entry->is_directory() && entry->path().filename() == "paper") entry.disable_recursion_pending();
    if (entry->is_regular_file() && entry->path().extension() == ".jsonl") files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files)
    for_each_json_line(file, [&](std::int64_t, const Json& line) {
      if (line.contains("bits_total")) input.results.push_back({fs::relative(file, root).string(), line});
    });
  if (const fs::path kernels = reference / "h100" / "decode_attention.jsonl"; fs::exists(kernels))
    for_each_json_line(kernels, [&](std::int64_t, const Json& line) { input.kernels.push_back(line); });
  const auto plain = [](const codec::SideSpec& side) {
    const codec::CodeSpec& c = side.code;
    return c.kind == codec::CodeKind::vector && c.stages == 1 && c.sketch == 0 && side.tap == codec::Tap::post_rope && side.outliers == 0 &&
           side.balance.tokens == 0 && side.pool.tokens == 0 && std::none_of(side.transforms.begin(), side.transforms.end(), [](const auto& step) {
             return step.kind == transform::TransformKind::token_norm || step.kind == transform::TransformKind::token_range;
           });
  };
  for (const std::string& name : pipeline::named_files("methods")) {
    const codec::MethodSpec preset = codec::load_method(pipeline::project_root() / "experiments" / "methods" / (name + ".yaml"));
    const codec::CodeSpec &key = preset.codec.key.code, &value = preset.codec.value.code;
    input.presets[name] = {plain(preset.codec.key) && plain(preset.codec.value),
                           fmt::format("K-d{}b{}/V-d{}b{} {}", key.dsub, key.bits, value.dsub, value.bits,
                                       key.scope == codec::BookScope::shared ? "shared" : "sub-space")};
  }
  return input;
}

}  // namespace vi::report
