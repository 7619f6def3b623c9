// What holds of every decode-attention kernel: random shapes, any split, few tokens (for the sanitizers), replays of a CUDA graph.
#include <gtest/gtest.h>

#include "core/common/rng.h"
#include "tests/cuda/decode_checks.h"

namespace vi::cuda {
namespace {

// Any row of any kernel at random lengths (0, 1, pages +- 1 and primes among them), groups, pages.
TEST(AnyKernel, RandomShapes) {
  VI_NEEDS_GPU();
  Rng rng(20261122);
  const std::vector<int> awkward = {0, 1, 15, 16, 17, 31, 47, 48, 49, 127, 257, 509, 1021};
  for (int i = 0; i < 60; ++i) {
    CaseSpec s;
    if (i % 3 == 0) {
      const LookupRow row = lookup_table()[rng.below(lookup_table().size())];
      s.head_dim = row.head_dim;
      s.key = {row.key_dsub, 8, rng.below(2) == 0};
      s.value = {row.value_dsub, 8, rng.below(2) == 0};
    } else if (i % 3 == 1) {
      const GatherRow row = gather_table()[rng.below(gather_table().size())];
      s = case_of(row);
    } else {
      s.head_dim = std::vector<int>{64, 80, 96, 128, 256}[rng.below(5)];
      s.key = {1 << (1 + rng.below(3)), 1 + static_cast<int>(rng.below(12)), rng.below(2) == 0};
      s.value = {1 << (1 + rng.below(3)), 1 + static_cast<int>(rng.below(12)), rng.below(2) == 0};
    }
    s.n_kv_heads = 1 + static_cast<int>(rng.below(3));
    s.group = 1 + static_cast<int>(rng.below(16));
    const int batch = 1 + static_cast<int>(rng.below(9));
    for (int b = 0; b < batch; ++b)
      s.kv_len.push_back(rng.below(2) ? awkward[rng.below(awkward.size())]
                                      : static_cast<int>(rng.below(2000)));
    if (rng.below(2)) s.page_tokens = 16 * (1 + static_cast<int>(rng.below(8)));
    if (rng.below(2))
      for (int b = 0; b < batch; ++b) s.dense_len.push_back(static_cast<int>(rng.below(150)));
    s.capacity = 3000;
    s.bias = 1;
    s.seed = rng.next();
    if (rng.below(4) == 0) s.dtype = Dtype::bf16;
    check(s, true, ("random " + std::to_string(i)).c_str());
  }
}

// One codec for each kernel: look-up, gather, generic, look-up of d2, sliced.
std::vector<CaseSpec> one_of_each() {
  std::vector<CaseSpec> all(5);
  all[4].key = {8, 10, false};
  all[4].value = {4, 12, false};
  all[3].key = all[3].value = {2, 8, false};
  all[1].key = {4, 10, true};
  all[1].value = {8, 12, true};
  all[2].key = {2, 3, false};
  all[2].value = {4, 6, true};
  return all;
}

TEST(AnyKernel, SplitInvariant) {
  VI_NEEDS_GPU();
  for (CaseSpec s : one_of_each()) {
    s.kv_len = {5000, 3, 1777};
    s.dense_len = {132, 4, 0};
    DecodeCase c(s);
    for (int ctas : {1, 2, 7, 64, 131}) {
      Problem p = c.problem(current_device());
      p.n_sms = ctas;
      KernelConfig config = select_kernel(p);
      for (int min_units : {1, 16}) {
        config.min_units = min_units;
        EXPECT_LE(compare(c, c.run(config)).out, 1e-3) << ctas << " CTAs, " << min_units;
      }
    }
  }
}

// Every row of every kernel on few tokens, cut between three CTAs: short enough for compute-sanitizer's racecheck, which takes minutes for Lengths.
TEST(AnyKernel, FewTokens) {
  VI_NEEDS_GPU();
  std::vector<std::pair<CaseSpec, bool>> cases;  // bool: the sliced kernel, which others take some codes from
  for (const LookupRow& row : lookup_table()) {
    CaseSpec s;
    s.head_dim = row.head_dim;
    s.key = {row.key_dsub, 8, false};
    s.value = {row.value_dsub, 8, true};
    cases.emplace_back(s, false);
  }
  for (const GatherRow& row : gather_table()) cases.emplace_back(case_of(row), false);
  for (const auto& [key, value] : sliced_codes()) {
    CaseSpec s;
    s.key = key, s.value = value;
    cases.emplace_back(s, true);
  }
  for (CaseSpec& s : one_of_each()) cases.emplace_back(s, false);
  for (auto& [s, sliced] : cases) {
    s.n_kv_heads = 1;
    s.kv_len = {150, 33};
    s.dense_len = {5, 0};
    DecodeCase c(s);
    Problem p = c.problem(current_device());
    p.n_sms = 3;
    KernelConfig config = sliced ? select_sliced(p) : select_kernel(p);
    config.min_units = 1;
    EXPECT_LE(compare(c, c.run(config)).out, 1e-3) << kernel_name(config.kind) << " " << code_name(s.key) << " " << code_name(s.value);
  }
}

// A captured step stays valid when lengths grow and shrink: replays equal eager runs bit for bit.
TEST(AnyKernel, GraphReplay) {
  VI_NEEDS_GPU();
  for (CaseSpec s : one_of_each()) {
    s.kv_len = {4001, 64};
    s.dense_len = {20, 0};
    DecodeCase c(s);
    const KernelConfig config = select_kernel(c.problem(current_device()));
    cudaStream_t stream;
    VI_CUDA(cudaStreamCreate(&stream));
    const DecodeParams p = c.device_params(config, stream);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    VI_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    decode_attention(p, config);
    VI_CUDA(cudaStreamEndCapture(stream, &graph));
    VI_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    const std::vector<std::vector<int>> lengths = {{4001, 64}, {4001, 64}, {0, 0},
                                                   {1, 4001},  {17, 2048}, {3999, 65}};
    for (const auto& len : lengths) {
      c.set_lengths(len);
      c.poison();
      VI_CUDA(cudaDeviceSynchronize());
      VI_CUDA(cudaGraphLaunch(exec, stream));
      VI_CUDA(cudaStreamSynchronize(stream));
      const auto replay = c.read();
      EXPECT_LE(compare(c, replay).out, 1e-3) << kernel_name(config.kind);
      c.poison();
      VI_CUDA(cudaDeviceSynchronize());
      decode_attention(p, config);
      VI_CUDA(cudaStreamSynchronize(stream));
      EXPECT_EQ(replay.bits, c.read().bits) << kernel_name(config.kind);
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  }
}

}  // namespace
}  // namespace vi::cuda
