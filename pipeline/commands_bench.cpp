// bench: timings with the fair baseline in the same run.
#include <cstdio>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/quant/kmeans_bench.h"
#include "eval/efficiency/cpu_kernels.h"
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

}  // namespace

int bench_command(const std::string& what, const std::string& device, const std::string& json_file) {
  if (device == "cuda")
    fail<CudaError>("bench {}: the GPU kernels' bench is a program of its own that needs nothing but CUDA: build/release/cuda_bench", what);
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
