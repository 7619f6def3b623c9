// What the benches of gpu_bench.h share.
#pragma once

#include <ATen/ATen.h>

#include "cuda/bench/gpu_bench.h"
#include "cuda/common/check.h"

namespace vi::cuda {

class BenchRows {
 public:
  BenchRows(const GpuBench& settings, const std::function<void(const Json&)>& each);
  const GpuBench& settings() const { return settings_; }
  const Device& device() const { return device_; }
  at::Device torch_device() const { return {at::kCUDA, static_cast<c10::DeviceIndex>(device_.index)}; }
  double copy_gb_s() const { return copy_gb_s_; }  // read + written, measured in this run
  // The row with what every row says (bench, device, gpu, copy_gb_s), kept and shown.
  void add(Json row);
  std::vector<Json> take() { return std::move(rows_); }

 private:
  const GpuBench& settings_;
  const std::function<void(const Json&)>& each_;
  Device device_;
  double copy_gb_s_ = 0;
  std::vector<Json> rows_;
};

// {"ms", "ms_p10", "ms_p90", "repeats"} of single times.
Json spread(std::vector<double> ms);

void bench_kernels(BenchRows& rows, Progress& progress);
void bench_model(BenchRows& rows, Progress& progress);  // e2e, breakdown
void bench_kmeans(BenchRows& rows, Progress& progress);

}  // namespace vi::cuda
