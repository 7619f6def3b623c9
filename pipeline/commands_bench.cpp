// bench: timings with the fair baseline in the same run.
#include <cstdio>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/quant/kmeans_bench.h"
#include "eval/efficiency/cpu_kernels.h"
#include "eval/gpu_backend.h"
#include "pipeline/commands.h"
#include "pipeline/report/table.h"
#include "pipeline/terminal.h"

namespace vi::pipeline {
namespace {

std::string cell(const Json& row, const char* key, int digits) {
  const auto found = row.find(key);
  if (found == row.end() || !found->is_number()) return "";
  return fmt::format("{:.{}f}", found->get<double>(), digits);
}

// Rows are written as they come: a long run that is interrupted keeps what it measured.
int bench_gpu(const std::string& what, const std::string& cases, const std::string& json_file) {
  TerminalProgress progress;
  std::string lines;
  const auto rows = eval::gpu_backend().bench(what, cases, progress, [&](const Json& row) {
    lines += row.dump() + "\n";
    if (!json_file.empty()) write_file_atomic(json_file, lines);
    const char* name = row.contains("contender") ? "contender" : "method";
    progress.note(fmt::format("{} {} ms {}", row.at(name).get<std::string>(), row.value("ms", row.value("ttft_ms", 0.0)),
                              row.contains("skipped") ? row.at("skipped").get<std::string>() : ""));
  });
  report::Table table;
  const auto text = [](const Json& row, const char* key) { return row.contains(key) ? row.at(key).get<std::string>() : std::string(); };
  if (what == "kernels") {
    table.header = {"contender", "batch", "kv_len", "head_dim", "ms", "GB/s", "% of copy", "error", "x ours"};
    for (const Json& row : rows)
      table.rows.push_back({text(row, "contender"), cell(row, "batch", 0), cell(row, "kv_len", 0), cell(row, "head_dim", 0),
                            row.contains("skipped") ? "skipped" : cell(row, "ms", 4), cell(row, "gb_s", 0), cell(row, "pct_of_copy", 0),
                            row.contains("error") ? fmt::format("{:.1e}", row.at("error").get<double>()) : "", cell(row, "times_ours", 2)});
  } else if (what == "e2e") {
    table.header = {"method", "batch", "context", "ms/token", "mean", "roofline", "tokens/s", "TTFT ms", "used bytes"};
    for (const Json& row : rows)
      table.rows.push_back({text(row, "method"), cell(row, "batch", 0), cell(row, "context", 0),
                            row.contains("skipped") ? "skipped" : cell(row, "ms", 3), cell(row, "mean_ms", 3), cell(row, "roofline_ms", 2),
                            cell(row, "tokens_per_s", 1), cell(row, "ttft_ms", 0), cell(row, "gpu_used_bytes", 0)});
  } else if (what == "kmeans") {
    table.header = {"problems x points x dims -> centroids", "iterations", "ms", "inertia off", "one by one: ms", "with means on the host: ms"};
    for (const Json& row : rows)
      table.rows.push_back({text(row, "method"), cell(row, "iterations", 0), cell(row, "ms", 1),
                            fmt::format("{:+.4f} %", 100 * row.at("inertia_against_oracle").get<double>()), cell(row, "own_sequential_ms", 0),
                            cell(row, "gpu_search_host_means_sequential_ms", 0)});
  } else {
    table.header = {"method", "context", "ms", "parts"};
    for (const Json& row : rows)
      table.rows.push_back({text(row, "method"), cell(row, "context", 0), cell(row, "ms", 3),
                            row.contains("parts_ms") ? row.at("parts_ms").dump() : ""});
  }
  const std::string shown = table.text();
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  return 0;
}

}  // namespace

int bench_command(const std::string& what, const std::string& device, const std::string& cases, const std::string& json_file) {
  if (device == "cuda") return bench_gpu(what, cases, json_file);
  if (what == "e2e" || what == "breakdown")
    fail<ConfigError>("bench {}: measured on the GPU only; on the CPU: kernels, kmeans", what);
  TerminalProgress progress;
  std::string lines;
  report::Table table;
  if (what == "kernels") {
    table.header = {"kernel", "kv_len", "bits", "ms", "GB/s", "copy GB/s", "error", "x f32 SDPA", "x bf16 SDPA"};
    for (const Json& row : eval::cpu_kernel_bench({}, progress)) {
      lines += row.dump() + "\n";
      if (row.contains("skipped")) {
        progress.note(fmt::format("kv_len {}: {}", row.at("kv_len").get<std::int64_t>(), row.at("skipped").dump()));
        continue;
      }
      table.rows.push_back({row.at("contender"), cell(row, "kv_len", 0), cell(row, "bits", 2), cell(row, "ms", 3), cell(row, "gb_s", 2),
                            cell(row, "copy_gb_s", 1), fmt::format("{:.1e}", row.at("error").get<double>()), cell(row, "vs_f32", 2),
                            cell(row, "vs_bf16", 2)});
    }
  } else {
    table.header = {"case", "problems", "points", "dsub", "ksub", "iterations", "wall s", "FAISS flat s/problem", "speed-up"};
    const Json result = quant::kmeans_bench({}, progress);
    lines = result.dump() + "\n";
    for (const Json& row : result.at("cases"))
      table.rows.push_back({row.at("case"), cell(row, "problems", 0), cell(row, "points", 0), cell(row, "dsub", 0), cell(row, "ksub", 0),
                            cell(row, "iterations", 0), cell(row, "wall_s", 1), cell(row, "faiss_flat_wall_s_per_problem", 3),
                            cell(row, "speedup", 1)});
  }
  if (!json_file.empty()) write_file_atomic(json_file, lines);
  const std::string text = table.text();
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace vi::pipeline
