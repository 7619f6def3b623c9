// KIVI's form of 2-bit integers: the oracle's codes equal core/quant's, the GPU's equal the
// oracle's, and fused attention over them is held to f64: awkward lengths, ragged batches, GQA
// groups, biased keys with outlier channels, any number of splits, bitwise repeatability.
#include "cuda/kivi/kivi.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <set>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"
#include "core/quant/integer_code.h"
#include "cuda/common/buffer.h"
#include "cuda/kivi/layout.h"
#include "cuda/kivi/oracle.h"

namespace vi::cuda {
namespace {

#define VI_NEEDS_GPU() \
  if (!has_device()) GTEST_SKIP() << "no CUDA device"

struct Case {
  std::vector<int> kv_len;
  int n_kv_heads = 2, group = 4, head_dim = 128;
  Dtype dtype = Dtype::f16;
  double key_bias = 0;  // per channel, ten times as much in every 17th
};

std::uint16_t bits_of(float v, Dtype t) {
  return t == Dtype::f16 ? float_to_half(v) : float_to_bf16(v);
}
float value_of(std::uint16_t v, Dtype t) {
  return t == Dtype::f16 ? half_to_float(v) : bf16_to_float(v);
}

// Rows of `heads` heads; with a bias of each channel.
std::vector<std::uint16_t> rows(Rng& rng, int heads, int n, int head_dim, double bias,
                                Dtype dtype) {
  std::vector<double> mean(static_cast<std::size_t>(heads) * head_dim);
  for (std::size_t i = 0; i < mean.size(); ++i)
    mean[i] = bias * rng.normal() * (i % 17 == 3 ? 10 : 1);
  std::vector<std::uint16_t> x(mean.size() * n);
  for (int h = 0; h < heads; ++h)
    for (int t = 0; t < n; ++t)
      for (int d = 0; d < head_dim; ++d)
        x[(static_cast<std::size_t>(h) * n + t) * head_dim + d] = bits_of(
            static_cast<float>(rng.normal() + mean[static_cast<std::size_t>(h) * head_dim + d]),
            dtype);
  return x;
}

std::vector<float> floats(const std::uint16_t* x, std::size_t n, Dtype dtype) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = value_of(x[i], dtype);
  return out;
}

TEST(KiviLayout, EveryBitHasOnePlace) {
  for (const int head_dim : {64, 128}) {
    std::set<int> bits;
    const auto put = [&](int at) {
      EXPECT_GE(at, 0);
      EXPECT_LT(at, 32 * kivi::record_words(head_dim));
      EXPECT_TRUE(bits.insert(at).second);
    };
    for (int d = 0; d < head_dim; ++d)
      for (int t = 0; t < 32; ++t)
        for (const kivi::CodeAt at : {kivi::key_code_at(t, d), kivi::value_code_at(head_dim, t, d)})
          for (int i = 0; i < 2; ++i) put(32 * at.word + at.shift + i);
    for (const bool minimum : {false, true})
      for (int i = 0; i < 16; ++i) {
        for (int d = 0; d < head_dim; ++d) put(16 * kivi::key_half_at(head_dim, d, minimum) + i);
        for (int t = 0; t < 32; ++t)
          for (int d = 0; d < head_dim; d += 32)
            put(16 * kivi::value_half_at(head_dim, t, d, minimum) + i);
      }
    EXPECT_EQ(bits.size(), 32u * kivi::record_words(head_dim));
  }
}

TEST(KiviOracle, CodesAsTheCodec) {
  for (const int head_dim : {64, 128}) {
    Rng rng(head_dim);
    const int n = 96;
    std::vector<float> k = floats(rows(rng, 1, n, head_dim, 2, Dtype::f16).data(), n * head_dim,
                                  Dtype::f16),
                       v = k;
    for (float& x : v) x = static_cast<float>(3 * rng.normal());
    for (int d = 0; d < 32; ++d) v[d] = 0.5f;  // a constant group
    const std::vector<std::uint32_t> records = oracle_kivi_encode(k.data(), v.data(), n, head_dim);
    for (const bool key : {true, false}) {
      const quant::IntegerCode code(
          head_dim, nullptr, key ? quant::GroupAxis::channel : quant::GroupAxis::token, 2, 32);
      std::vector<float> want(k.size());
      code.reconstruct((key ? k : v).data(), n, want.data());
      const std::vector<double> got = oracle_kivi_decode(records.data(), n, head_dim, key);
      for (std::size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 1e-5 * std::abs(want[i]) + 1e-7) << i;
    }
  }
}

TEST(Kivi, EncodesAsTheOracle) {
  VI_NEEDS_GPU();
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16})
    for (const int head_dim : {64, 128})
      for (const int n : {1, 31, 32, 33, 257}) {
        Rng rng(n);
        const int heads = 3;
        const auto k = rows(rng, heads, n, head_dim, 1, dtype),
                   v = rows(rng, heads, n, head_dim, 0, dtype);
        const std::size_t words =
            static_cast<std::size_t>((n + 31) / 32) * kivi::record_words(head_dim);
        Buffer<std::uint32_t> records(words * heads);
        const Buffer<std::uint16_t> d_k(k), d_v(v);
        kivi_encode(d_k.data(), d_v.data(), records.data(), heads, n, head_dim, dtype, nullptr);
        const auto got = records.download();
        for (int h = 0; h < heads; ++h) {
          const std::size_t at = static_cast<std::size_t>(h) * n * head_dim,
                            count = static_cast<std::size_t>(n) * head_dim;
          const auto want = oracle_kivi_encode(floats(&k[at], count, dtype).data(),
                                               floats(&v[at], count, dtype).data(), n, head_dim);
          EXPECT_EQ(
              std::vector<std::uint32_t>(got.begin() + h * words, got.begin() + (h + 1) * words),
              want)
              << n;
        }
      }
}

struct Attention {
  explicit Attention(const Case& c, std::uint64_t seed)
      : c(c), batch(static_cast<int>(c.kv_len.size())) {
    Rng rng(seed);
    for (const int len : c.kv_len) n_blocks = std::max(n_blocks, (len + 31) / 32);
    words = static_cast<std::size_t>(n_blocks) * kivi::record_words(c.head_dim);
    records.resize(words * batch * c.n_kv_heads);
    for (int b = 0; b < batch; ++b) {
      const int n = c.kv_len[b];
      const auto k = rows(rng, c.n_kv_heads, n, c.head_dim, c.key_bias, c.dtype),
                 v = rows(rng, c.n_kv_heads, n, c.head_dim, 0.3, c.dtype);
      for (int h = 0; h < c.n_kv_heads; ++h) {
        const std::size_t at = static_cast<std::size_t>(h) * n * c.head_dim,
                          count = static_cast<std::size_t>(n) * c.head_dim;
        const auto own =
            oracle_kivi_encode(floats(k.data() + at, count, c.dtype).data(),
                               floats(v.data() + at, count, c.dtype).data(), n, c.head_dim);
        std::copy(own.begin(), own.end(),
                  records.begin() + static_cast<std::ptrdiff_t>(
                                        (static_cast<std::size_t>(b) * c.n_kv_heads + h) * words));
      }
    }
    const int n_q_heads = c.n_kv_heads * c.group;
    q = rows(rng, batch * n_q_heads, 1, c.head_dim, 0, c.dtype);
    d_records = Buffer<std::uint32_t>(records);
    d_q = Buffer<std::uint16_t>(q);
    d_out = Buffer<std::uint16_t>(q.size());
    d_len = Buffer<int>(c.kv_len);
    p.q = d_q.data(), p.out = d_out.data(), p.records = d_records.data(), p.kv_len = d_len.data();
    p.n_blocks = n_blocks, p.batch = batch, p.n_q_heads = n_q_heads, p.n_kv_heads = c.n_kv_heads;
    p.head_dim = c.head_dim, p.dtype = c.dtype,
    p.scale = 1.f / std::sqrt(static_cast<float>(c.head_dim));
  }
  // splits 0: the naive kernel. The largest error of a sequence, relative to the norm of its
  // outputs.
  double error(int splits, std::vector<std::uint16_t>* out = nullptr) {
    d_out.fill(0xff);
    p.num_splits = std::max(1, splits);
    Buffer<unsigned char> workspace(kivi_workspace_bytes(p));
    workspace.fill(0);
    p.workspace = workspace.data();
    if (splits == 0) {
      kivi_decode_attention_naive(p);
    } else {
      kivi_decode_attention(p);
      if (splits > 1) {  // the counters are left as they were
        d_out.fill(0xff);
        kivi_decode_attention(p);
      }
    }
    VI_CUDA(cudaDeviceSynchronize());
    const auto got = d_out.download();
    if (out) *out = got;
    double worst = 0;
    for (int b = 0; b < batch; ++b) {
      double off = 0, norm = 0;
      for (int h = 0; h < c.n_kv_heads; ++h) {
        const std::size_t at = (static_cast<std::size_t>(b) * p.n_q_heads + h * c.group) *
                               c.head_dim,
                          count = static_cast<std::size_t>(c.group) * c.head_dim;
        const auto want = oracle_kivi_attention(
            floats(&q[at], count, c.dtype).data(), c.group,
            records.data() + (static_cast<std::size_t>(b) * c.n_kv_heads + h) * words, c.kv_len[b],
            c.head_dim, p.scale);
        for (std::size_t i = 0; i < count; ++i) {
          const double g = value_of(got[at + i], c.dtype);
          off += (g - want[i]) * (g - want[i]);
          norm += want[i] * want[i];
        }
      }
      const double e = norm > 0 ? std::sqrt(off / norm) : std::sqrt(off);  // empty: exactly zero
      if (!(e <= worst)) worst = e;                                        // NaN stays
    }
    return worst;
  }
  Case c;
  int batch, n_blocks = 1;
  std::size_t words = 0;
  std::vector<std::uint32_t> records;
  std::vector<std::uint16_t> q;
  Buffer<std::uint32_t> d_records;
  Buffer<std::uint16_t> d_q, d_out;
  Buffer<int> d_len;
  KiviParams p;
};

TEST(Kivi, AttendsAsTheOracle) {
  VI_NEEDS_GPU();
  const std::vector<Case> cases = {{{1}},
                                   {{31, 32, 33}},
                                   {{0, 5, 4099}},
                                   {{257, 1024}, 1, 1},
                                   {{2048}, 3, 7, 64},
                                   {{777, 3000}, 2, 3, 64},
                                   {{1500}, 1, 8},
                                   {{1500, 64}, 2, 16},
                                   {{2000}, 2, 5, 128, Dtype::bf16},
                                   {{2000}, 2, 4, 128, Dtype::f16, 5},
                                   {{8191}, 1, 4, 64, Dtype::f16, 5}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    Attention run(cases[i], 100 + i);
    const double bound = cases[i].dtype == Dtype::bf16 ? 4e-3 : 1e-3;
    const double naive = run.error(0);
    EXPECT_LE(naive, bound) << i;
    for (const int splits :
         {1, 2, 5, kivi_splits(run.batch, run.p.n_q_heads, run.p.n_kv_heads, run.n_blocks, 132)}) {
      const double e = run.error(splits);
      std::printf("kivi case %2zu, %2d splits: %.1e (naive %.1e)\n", i, splits, e, naive);
      EXPECT_LE(e, bound) << i << ", " << splits << " splits";
    }
  }
}

TEST(Kivi, RandomShapes) {
  VI_NEEDS_GPU();
  Rng rng(2024);
  double worst = 0;
  for (int i = 0; i < 24; ++i) {
    Case c;
    c.kv_len.resize(1 + rng.below(4));
    for (int& n : c.kv_len) n = static_cast<int>(rng.below(rng.below(2) ? 100 : 1500));
    c.n_kv_heads = 1 + static_cast<int>(rng.below(3));
    c.group = 1 + static_cast<int>(rng.below(10));
    c.head_dim = rng.below(2) ? 64 : 128;
    c.key_bias = static_cast<double>(rng.below(3));
    Attention run(c, i);
    const double e = run.error(1 + static_cast<int>(rng.below(6)));
    EXPECT_LE(e, 1e-3) << i;
    worst = std::max(worst, e);
  }
  std::printf("kivi, 24 random shapes: at most %.1e\n", worst);
}

TEST(Kivi, SameBytesEveryRun) {
  VI_NEEDS_GPU();
  Attention run({{3001, 500}}, 1);
  std::vector<std::uint16_t> first, second;
  run.error(7, &first);
  run.error(7, &second);
  EXPECT_EQ(first, second);
}

TEST(Kivi, RefusesWhatItDoesNotServe) {
  KiviParams p;
  EXPECT_THROW(kivi_decode_attention(p), Error);
  const int one = 1;
  p.q = p.records = reinterpret_cast<const std::uint32_t*>(&one);
  p.out = const_cast<int*>(&one);
  p.kv_len = &one;
  p.batch = p.n_q_heads = p.n_kv_heads = 1;
  p.head_dim = 96;
  EXPECT_THROW(kivi_decode_attention(p), Error);
  EXPECT_THROW(kivi_encode(&one, &one, nullptr, 1, 1, 64, Dtype::f16, nullptr), Error);
}

TEST(Kivi, SplitsFillTheDevice) {
  EXPECT_EQ(kivi_splits(1, 32, 8, 1, 132), 1);
  EXPECT_EQ(kivi_splits(256, 32, 8, 32, 132), 1);
  const int one = kivi_splits(1, 32, 8, 6144, 132);
  EXPECT_GE(one * 8, 120);
  EXPECT_LE(one * 8, 132);
}

}  // namespace
}  // namespace vi::cuda
