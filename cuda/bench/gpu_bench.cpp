#include "cuda/bench/gpu_bench.h"

#include <algorithm>

#include "core/common/error.h"
#include "cuda/bench/gpu_bench_impl.h"
#include "cuda/common/timing.h"

namespace vi::cuda {

BenchRows::BenchRows(const GpuBench& settings, const std::function<void(const Json&)>& each)
    : settings_(settings), each_(each), device_(current_device()) {
  copy_gb_s_ = 1e-9 * Timer().copy_bandwidth();
}

void BenchRows::add(Json row) {
  Json all = {{"bench", settings_.what}, {"device", "cuda"}, {"gpu", device_.name}};
  all.update(row);
  all["copy_gb_s"] = copy_gb_s_;
  rows_.push_back(all);
  if (each_) each_(all);
}

Json spread(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  const auto at = [&](double p) { return ms[static_cast<std::size_t>(p * static_cast<double>(ms.size() - 1) + 0.5)]; };
  return {{"ms", at(0.5)}, {"ms_p10", at(0.1)}, {"ms_p90", at(0.9)}, {"repeats", ms.size()}};
}

std::vector<Json> gpu_bench(const GpuBench& settings, Progress& progress,
                            const std::function<void(const Json&)>& each) {
  BenchRows rows(settings, each);
  if (settings.what == "kernels")
    bench_kernels(rows, progress);
  else if (settings.what == "e2e" || settings.what == "breakdown")
    bench_model(rows, progress);
  else if (settings.what == "kmeans")
    bench_kmeans(rows, progress);
  else
    fail<ConfigError>("bench {} --device cuda: expected kernels, e2e, breakdown or kmeans", settings.what);
  return rows.take();
}

}  // namespace vi::cuda
