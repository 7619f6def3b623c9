// Every decode-attention kernel against the f64 oracle: awkward lengths, ragged batches, GQA
// groups, scopes, pages, windows, biased keys; bitwise repeatability; independence of the split;
// replays of a CUDA graph.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <tuple>

#include "core/common/error.h"
#include "core/common/rng.h"
#include "cuda/common/check.h"
#include "cuda/decode_attention/cases.h"
#include "cuda/decode_attention/oracle.h"

namespace vi::cuda {
namespace {

#define VI_NEEDS_GPU() \
  if (!has_device()) GTEST_SKIP() << "no CUDA device"

// Largest error of a sequence's heads, each relative to the norm of that head's output; lse too.
struct Errors {
  double out = 0, lse = 0;
};
Errors compare(DecodeCase& c, const DecodeCase::Result& r) {
  Errors e;
  const DecodeParams& p = c.host();
  for (int b = 0; b < p.batch; ++b) {
    const OracleResult want = oracle_decode(p, b);
    const std::size_t at = static_cast<std::size_t>(b) * p.n_q_heads;
    const double err = relative_error(&r.out[at * p.head_dim], want.out.data(), want.out.size());
    if (!(err <= e.out)) e.out = err;  // NaN stays
    for (int h = 0; h < p.n_q_heads; ++h) {
      if (std::isinf(want.lse[h])) {
        EXPECT_EQ(r.lse[at + h], want.lse[h]);
        for (int d = 0; d < p.head_dim; ++d) EXPECT_EQ(r.out[(at + h) * p.head_dim + d], 0.f);
        continue;
      }
      const double diff =
          std::abs(r.lse[at + h] - want.lse[h]) / std::max(1.0, std::abs(want.lse[h]));
      if (!(diff <= e.lse)) e.lse = diff;
    }
  }
  return e;
}

double bound(Dtype t) {
  return t == Dtype::bf16 ? 4e-3 : 1e-3;
}  // bf16's own rounding of the output is 2e-3

void check(const CaseSpec& spec, bool fast, const char* what, double tolerance = 0) {
  DecodeCase c(spec);
  const Device device = current_device();
  const KernelConfig config =
      fast ? select_kernel(c.problem(device)) : select_naive(c.problem(device));
  const auto first = c.run(config);
  const Errors e = compare(c, first);
  std::printf("%-40s out %.1e  lse %.1e\n", what, e.out, e.lse);
  EXPECT_LE(e.out, tolerance > 0 ? tolerance : bound(spec.dtype)) << what;
  EXPECT_LE(e.lse, 2e-3) << what;
  const auto again = c.run(config);
  EXPECT_EQ(first.bits, again.bits) << what << ": two runs differ";
}

const std::vector<int> kLengths = {0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 251, 1021, 2053};

TEST(NaiveDecode, AnyCode) {
  VI_NEEDS_GPU();
  std::uint64_t seed = 1;
  for (int bits : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16})
    for (int dsub : {2, 4, 8}) {
      if (bits == 16 && dsub != 8) continue;
      CaseSpec s;
      s.n_kv_heads = 1;
      s.head_dim = 64;
      s.group = 3;
      s.key = {dsub, bits, bits > 10};
      s.value = {dsub, bits, bits > 10 || bits % 2 == 0};
      s.kv_len = {17, 0, 129, 1};
      s.page_tokens = bits % 3 == 0 ? 32 : 0;
      s.dense_len = {3, 1, 0, 5};
      s.seed = ++seed;
      check(s, false, ("naive d" + std::to_string(dsub) + "b" + std::to_string(bits)).c_str());
    }
  for (int head_dim : {80, 96, 128, 256}) {
    CaseSpec s;
    s.head_dim = head_dim;
    s.key = {4, 8, false};
    s.value = {8, 6, true};
    s.kv_len = {300, 5};
    check(s, false, ("naive head_dim " + std::to_string(head_dim)).c_str());
  }
}

TEST(LookupDecode, Lengths) {
  VI_NEEDS_GPU();
  for (const LookupRow& row : lookup_table()) {
    CaseSpec s;
    s.head_dim = row.head_dim;
    s.key = {row.key_dsub, 8, false};
    s.value = {row.value_dsub, 8, false};
    s.kv_len = kLengths;
    const std::string name = "lookup " + std::to_string(row.head_dim) + " K-d" +
                             std::to_string(row.key_dsub) + " V-d" + std::to_string(row.value_dsub);
    check(s, true, name.c_str());
    s.key.shared = true;  // d4b8 shared on both sides is gather's
    check(s, true, (name + " keys shared").c_str());
    s.page_tokens = 48;
    s.dense_len = {132, 0, 1, 15, 16, 17, 4, 128, 0, 33, 64, 5, 131, 200};
    check(s, true, (name + " keys shared paged dense").c_str());
    s.key.shared = false;
    s.value.shared = true;
    s.dtype = Dtype::bf16;
    check(s, true, (name + " values shared paged dense bf16").c_str());
  }
}

std::string shape_name(const GatherRow& r) {
  return "hd " + std::to_string(r.head_dim) + " K-d" + std::to_string(r.key.dsub) + "b" +
         std::to_string(r.key.code_bits) + "/V-d" + std::to_string(r.value.dsub) + "b" +
         std::to_string(r.value.code_bits) + (r.key.shared ? " shared" : "") + " GQA " +
         std::to_string(r.from);
}

CaseSpec case_of(const GatherRow& r) {
  CaseSpec s;
  s.head_dim = r.head_dim;
  s.key = r.key;
  s.value = r.value;
  s.group = r.from == 1 ? 4 : r.from;
  return s;
}

TEST(GatherDecode, Lengths) {
  VI_NEEDS_GPU();
  for (const GatherRow& row : gather_table()) {
    CaseSpec s = case_of(row);
    s.kv_len = kLengths;
    check(s, true, ("gather " + shape_name(row)).c_str());
    s.page_tokens = 48;
    s.dense_len = {132, 0, 1, 15, 16, 17, 4, 128, 0, 33, 64, 5, 131, 200};
    check(s, true, ("gather " + shape_name(row) + " paged dense").c_str());
    s.page_tokens = 0;
    s.dtype = Dtype::bf16;
    check(s, true, ("gather " + shape_name(row) + " dense bf16").c_str());
  }
}

TEST(GatherDecode, Groups) {
  VI_NEEDS_GPU();
  for (const GatherRow& row : gather_table())
    for (int group = row.from; group <= row.to; ++group) {
      CaseSpec s = case_of(row);
      s.group = group;
      s.n_kv_heads = group % 3 + 1;
      s.kv_len = {777, 64, 0, 130};
      s.dense_len = {4, 132, 7, 0};
      s.seed = group;
      check(s, true, ("gather " + shape_name(row) + "/" + std::to_string(group)).c_str());
    }
}

TEST(GatherDecode, BiasedKeys) {
  VI_NEEDS_GPU();
  for (const GatherRow& row : gather_table()) {
    CaseSpec s = case_of(row);
    s.bias = 5;
    s.kv_len = {2053, 300};
    s.dense_len = {132, 4};
    check(s, true, ("gather " + shape_name(row) + " bias 5").c_str());
  }
}

// Codes that the sliced kernel alone serves fast, and some that others serve too.
std::vector<std::pair<CodeShape, CodeShape>> sliced_codes() {
  return {{{8, 10, false}, {8, 10, false}}, {{4, 10, false}, {4, 10, false}}, {{4, 12, false}, {4, 12, false}},
          {{8, 12, false}, {8, 12, false}}, {{4, 10, false}, {8, 12, false}}, {{8, 10, true}, {8, 10, true}},
          {{2, 8, false}, {4, 8, false}},   {{2, 10, true}, {2, 12, false}},  {{4, 8, false}, {2, 8, false}}};
}

std::string code_name(const CodeShape& s) {
  return "d" + std::to_string(s.dsub) + "b" + std::to_string(s.code_bits) + (s.shared ? " shared" : "");
}

void check_sliced(const CaseSpec& spec) {
  DecodeCase c(spec);
  const KernelConfig config = select_sliced(c.problem(current_device()));
  const auto first = c.run(config);
  const Errors e = compare(c, first);
  std::printf("sliced hd %d GQA %d K-%s/V-%s  out %.1e lse %.1e\n", spec.head_dim, spec.group, code_name(spec.key).c_str(),
              code_name(spec.value).c_str(), e.out, e.lse);
  EXPECT_LE(e.out, bound(spec.dtype));
  EXPECT_LE(e.lse, 2e-3);
  EXPECT_EQ(first.bits, c.run(config).bits);
}

TEST(SlicedDecode, Lengths) {
  VI_NEEDS_GPU();
  for (const auto& [key, value] : sliced_codes())
    for (int head_dim : {64, 96, 128, 256}) {
      CaseSpec s;
      s.head_dim = head_dim;
      s.n_kv_heads = head_dim > 100 ? 1 : 2;
      s.key = key, s.value = value;
      s.kv_len = kLengths;
      check_sliced(s);
      s.page_tokens = 48;
      s.dense_len = {132, 0, 1, 15, 16, 17, 4, 128, 0, 33, 64, 5, 131, 200};
      s.dtype = head_dim == 96 ? Dtype::bf16 : Dtype::f16;
      check_sliced(s);
    }
}

TEST(SlicedDecode, GroupsAndBiasedKeys) {
  VI_NEEDS_GPU();
  for (int group = 1; group <= 16; ++group) {
    CaseSpec s;
    std::tie(s.key, s.value) = sliced_codes()[static_cast<std::size_t>(group) % 5];
    s.group = group;
    s.n_kv_heads = group % 3 + 1;
    s.kv_len = {777, 64, 0, 130};
    s.dense_len = {4, 132, 7, 0};
    s.seed = group;
    s.bias = group % 2 ? 5 : 0;
    check_sliced(s);
  }
}

TEST(GenericDecode, AnyCode) {
  VI_NEEDS_GPU();
  const std::vector<CodeShape> shapes = {
      {8, 16, true}, {2, 4, false}, {4, 6, false}, {2, 3, true},   {8, 10, false}, {4, 12, false},
      {4, 10, true}, {2, 8, false}, {1, 5, false}, {16, 9, false}, {8, 12, true},  {4, 1, true}};
  for (std::size_t i = 0; i < shapes.size(); ++i)
    for (int head_dim : {64, 80, 96, 128, 256}) {
      CaseSpec s;
      s.n_kv_heads = head_dim > 100 ? 1 : 2;
      s.head_dim = head_dim;
      s.group = 1 + static_cast<int>((i * 5 + head_dim / 16) % 16);
      s.key = shapes[i];
      s.value = shapes[(i + head_dim / 16) % shapes.size()];
      s.kv_len = {17, 0, 1021, 1, 33};
      s.page_tokens = i % 3 == 0 ? 32 : 0;
      if (i % 2) s.dense_len = {3, 1, 132, 5, 0};
      s.dtype = i % 4 == 3 ? Dtype::bf16 : Dtype::f16;
      s.seed = i + 1;
      const Device device = current_device();
      DecodeCase c(s);
      const KernelConfig config = select_generic(c.problem(device));
      const auto first = c.run(config);
      const Errors e = compare(c, first);
      std::printf("generic hd %d GQA %d K-d%db%d/V-d%db%d  out %.1e lse %.1e\n", head_dim, s.group,
                  s.key.dsub, s.key.code_bits, s.value.dsub, s.value.code_bits, e.out, e.lse);
      EXPECT_LE(e.out, bound(s.dtype));
      EXPECT_LE(e.lse, 2e-3);
      EXPECT_EQ(first.bits, c.run(config).bits);
    }
}

TEST(LookupDecode, Groups) {
  VI_NEEDS_GPU();
  for (int group = 1; group <= 16; ++group) {
    CaseSpec s;
    s.group = group;
    s.n_kv_heads = group % 3 + 1;
    s.kv_len = {777, 64, 0, 130};
    s.dense_len = {4, 132, 7, 0};
    s.seed = group;
    check(s, true, ("lookup GQA " + std::to_string(group)).c_str());
  }
}

TEST(LookupDecode, BiasedKeys) {
  VI_NEEDS_GPU();
  for (double bias : {1.0, 5.0, 20.0}) {
    CaseSpec s;
    s.bias = bias;
    s.kv_len = {2053, 300};
    s.dense_len = {132, 4};
    check(s, true, ("lookup key bias " + std::to_string(bias)).c_str(), bias > 10 ? 5e-3 : 1e-3);
  }
  for (double scale : {2.0, 4.0}) {  // sharp softmax: scores of standard deviation 3 and 6 in log2
    CaseSpec s;
    s.key_scale = scale;
    s.kv_len = {2053, 300};
    check(s, true, ("lookup key scale " + std::to_string(scale)).c_str(), 1e-3 * scale);
  }
}

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

TEST(DenseDecode, MatchesOracle) {
  VI_NEEDS_GPU();
  for (int head_dim : {64, 128})
    for (Dtype dtype : {Dtype::f16, Dtype::bf16})
      for (int group : {1, 4, 7, 16}) {
        CaseSpec s;  // its exact rows are this kernel's cache
        s.head_dim = head_dim;
        s.group = group;
        s.dtype = dtype;
        s.kv_len.assign(6, 0);
        s.dense_len = {0, 1, 15, 17, 129, 1021};
        DecodeCase c(s);
        const DecodeParams d = c.device_params(KernelConfig{});
        DenseParams p;
        p.q = d.q;
        p.out = d.out;
        p.key = d.dense_key;
        p.value = d.dense_value;
        p.kv_len = d.dense_len;
        p.batch = d.batch;
        p.n_q_heads = d.n_q_heads;
        p.n_kv_heads = d.n_kv_heads;
        p.head_dim = head_dim;
        p.capacity = d.dense_capacity;
        p.dtype = dtype;
        p.scale = d.scale;
        for (int splits : {1, 3}) {
          p.num_splits = splits;
          Buffer<float> workspace(dense_workspace_bytes(p) / sizeof(float));
          p.workspace = workspace.data();
          c.poison();
          dense_decode_attention(p);
          VI_CUDA(cudaDeviceSynchronize());
          const auto r = c.read();
          double worst = 0;
          for (int b = 0; b < d.batch; ++b) {
            const OracleResult want = oracle_decode(c.host(), b);
            const double e =
                relative_error(&r.out[static_cast<std::size_t>(b) * d.n_q_heads * head_dim],
                               want.out.data(), want.out.size());
            if (!(e <= worst)) worst = e;
          }
          EXPECT_LE(worst, dtype == Dtype::f16 ? 1e-3 : 6e-3) << head_dim << " GQA " << group;
        }
      }
}

}  // namespace
}  // namespace vi::cuda
