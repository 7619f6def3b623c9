// `vecinfer bench kernels --device cpu`: decode attention of one layer on packed codes, against
// libtorch's scaled_dot_product_attention on a dense f32 and a dense bf16 cache, in the same run
// and interleaved with it. The baseline is the best of enable_gqa and of the group folded into the
// query length. Every contender's output is checked against the f64 oracle before anything is
// timed.
#pragma once

#include <cstdint>
#include <vector>

#include "core/common/json.h"
#include "core/common/progress.h"

namespace vi::eval {

struct CpuKernelBench {
  std::vector<std::int64_t> kv_lens = {2048, 8192, 32768, 131072};
  int n_q_heads = 32, n_kv_heads = 8, head_dim = 128;
  int repeats = 11;  // timed runs of each contender, at least 9
  std::uint64_t seed = 1;
};

// One row a contender and kv_len, in the order measured:
//   {"bench":"kernels","device":"cpu","simd","threads","kv_len","n_q_heads","n_kv_heads","head_dim",
//    "contender" ("vecinfer d4b8 shared", "sdpa f32", ...), "bits" (payload bits per element),
//    "bytes" (of keys and values read), "ms","ms_min" (caches flushed before each run, as a model's
//    other layers and weights do), "warm_ms","warm_ms_min", "gb_s" (bytes / ms), "copy_gb_s" (a
//    measured memory copy, bytes read + written), "error" (largest, against the oracle, relative to
//    its largest value), "vs_f32","vs_bf16" (baseline ms / ms), "vs_f32_min","vs_bf16_min" (of the
//    minima)}
// A kv_len whose dense caches do not fit into free memory gives one row with "skipped". Error if a
// contender's output is wrong.
std::vector<Json> cpu_kernel_bench(const CpuKernelBench& settings, Progress& progress);

}  // namespace vi::eval
