// Each decode-attention kernel against the f64 oracle: awkward lengths, ragged batches, GQA groups, scopes, pages,
// windows, biased keys; bitwise repeatability. What holds of all of them: any_kernel_test.cpp.
#include <gtest/gtest.h>

#include <cstdio>
#include <tuple>

#include "core/common/error.h"
#include "tests/cuda/decode_checks.h"

namespace vi::cuda {
namespace {

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
