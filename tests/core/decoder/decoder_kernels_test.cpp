// The decoder's CPU kernels: f64 oracles, and the same bytes at every SIMD level, thread count and
// tiling.
#include "core/decoder/decoder_kernels.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/common/half.h"
#include "core/common/rng.h"

namespace vi::model {
namespace {

std::vector<float> normals(std::uint64_t seed, std::int64_t n, double scale = 1.0) {
  Rng rng(seed);
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& x : out) x = static_cast<float>(rng.normal() * scale);
  return out;
}

std::vector<Simd> levels() {
  std::vector<Simd> out{Simd::scalar};
  if (best_simd() >= Simd::avx2) out.push_back(Simd::avx2);
  if (best_simd() >= Simd::avx512) out.push_back(Simd::avx512);
  return out;
}

float bf16(float x) { return bf16_to_float(float_to_bf16(x)); }

TEST(PackedMatrix, RowsComeBack) {
  for (const bool half : {false, true}) {
    const std::int64_t n_out = 33, n_in = 7;
    const auto rows = normals(1, n_out * n_in);
    PackedMatrix w(n_out, n_in, half);
    w.set_rows(0, 5, rows.data());
    w.set_rows(5, n_out - 5, rows.data() + 5 * n_in);
    std::vector<float> row(n_in);
    for (std::int64_t r = 0; r < n_out; ++r) {
      w.get_row(r, row.data());
      for (std::int64_t i = 0; i < n_in; ++i)
        EXPECT_EQ(row[i], half ? bf16(rows[r * n_in + i]) : rows[r * n_in + i]);
    }
  }
}

TEST(DecoderKernels, LinearAgainstF64) {
  for (const std::int64_t n : {1, 2, 5, 6, 7, 31, 32, 33, 97, 200})
    for (const auto& [n_out, n_in] :
         {std::pair{1, 1}, {16, 256}, {33, 257}, {640, 40}, {15, 600}}) {
      const auto x = normals(2, n * n_in), weights = normals(3, n_out * n_in);
      const auto bias = normals(4, n_out), residual = normals(5, n * n_out);
      PackedMatrix w(n_out, n_in, false);
      w.set_rows(0, n_out, weights.data());
      std::vector<float> first;
      for (const Simd level : levels()) {
        std::vector<float> y(static_cast<std::size_t>(n * n_out));
        DecoderKernels(false, level).linear(w, x.data(), n, bias.data(), residual.data(), y.data());
        for (std::int64_t r = 0; r < n; ++r)
          for (int o = 0; o < n_out; ++o) {
            double want = bias[o] + static_cast<double>(residual[r * n_out + o]), size = 1.0;
            for (int i = 0; i < n_in; ++i) {
              const double term = static_cast<double>(x[r * n_in + i]) * weights[o * n_in + i];
              want += term;
              size += std::abs(term);
            }
            ASSERT_NEAR(y[r * n_out + o], want, 1e-6 * size) << n << ' ' << n_out << ' ' << n_in;
          }
        if (first.empty()) first = y;
        EXPECT_EQ(first, y) << simd_name(level);
      }
    }
}

// One chain of fused products over ascending input: what the header promises, bit for bit.
TEST(DecoderKernels, LinearIsOneChain) {
  const std::int64_t n = 13, n_in = 700, n_out = 20;
  const auto x = normals(6, n * n_in), weights = normals(7, n_out * n_in);
  PackedMatrix w(n_out, n_in, false);
  w.set_rows(0, n_out, weights.data());
  std::vector<float> y(static_cast<std::size_t>(n * n_out));
  DecoderKernels().linear(w, x.data(), n, nullptr, nullptr, y.data());
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t o = 0; o < n_out; ++o) {
      float acc = 0.0f;
      for (std::int64_t i = 0; i < n_in; ++i)
        acc = std::fma(x[r * n_in + i], weights[o * n_in + i], acc);
      ASSERT_EQ(y[r * n_out + o], acc);
    }
}

TEST(DecoderKernels, LinearRowsStandAlone) {
  const std::int64_t n = 205, n_in = 576, n_out = 50;
  const auto x = normals(8, n * n_in), weights = normals(9, n_out * n_in);
  for (const bool half : {false, true}) {
    PackedMatrix w(n_out, n_in, half);
    w.set_rows(0, n_out, weights.data());
    const DecoderKernels kernels(half);
    std::vector<float> all(static_cast<std::size_t>(n * n_out)),
        one(static_cast<std::size_t>(n_out));
    kernels.linear(w, x.data(), n, nullptr, nullptr, all.data());
    for (const std::int64_t r : {0, 1, 95, 96, 97, 203, 204}) {
      kernels.linear(w, x.data() + r * n_in, 1, nullptr, nullptr, one.data());
      EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + r * n_out)) << r;
    }
  }
}

TEST(DecoderKernels, Bf16LinearRoundsOnce) {
  const std::int64_t n = 9, n_in = 300, n_out = 18;
  auto x = normals(10, n * n_in), weights = normals(11, n_out * n_in);
  for (float& v : x) v = bf16(v);
  PackedMatrix half(n_out, n_in, true), full(n_out, n_in, false);
  half.set_rows(0, n_out, weights.data());
  for (float& v : weights) v = bf16(v);
  full.set_rows(0, n_out, weights.data());
  std::vector<float> a(static_cast<std::size_t>(n * n_out)), b(a.size());
  DecoderKernels(true).linear(half, x.data(), n, nullptr, nullptr, a.data());
  DecoderKernels(false).linear(full, x.data(), n, nullptr, nullptr, b.data());
  for (float& v : b) v = bf16(v);
  EXPECT_EQ(a, b);
}

TEST(DecoderKernels, RowOperationsAgainstF64) {
  for (const std::int64_t d : {1, 2, 15, 16, 17, 576}) {
    const std::int64_t n = 19;
    const auto x = normals(12, n * 2 * d, 3.0), weight = normals(13, d);
    std::vector<float> norm_first, silu_first;
    for (const Simd level : levels()) {
      const DecoderKernels kernels(false, level);
      std::vector<float> y(static_cast<std::size_t>(n * d)), z(y.size());
      std::vector<double> lse(static_cast<std::size_t>(n));
      kernels.rms_norm(x.data(), 2 * d, n, d, weight.data(), 1e-5f, y.data(), d);
      kernels.silu_mul(x.data(), n, d, z.data());
      kernels.log_sum_exp(x.data(), n, 2 * d, lse.data());
      for (std::int64_t r = 0; r < n; ++r) {
        const float* row = x.data() + r * 2 * d;
        double square = 0.0, sum = 0.0, top = -1e30;
        for (std::int64_t i = 0; i < d; ++i) square += static_cast<double>(row[i]) * row[i];
        for (std::int64_t i = 0; i < 2 * d; ++i) top = std::max(top, static_cast<double>(row[i]));
        for (std::int64_t i = 0; i < 2 * d; ++i) sum += std::exp(row[i] - top);
        EXPECT_NEAR(lse[r], top + std::log(sum), 1e-6);
        for (std::int64_t i = 0; i < d; ++i) {
          const double normed =
              row[i] / std::sqrt(square / static_cast<double>(d) + 1e-5) * weight[i];
          EXPECT_NEAR(y[r * d + i], normed, 1e-6 * (1.0 + std::abs(normed)));
          const double gated = row[i] / (1.0 + std::exp(-static_cast<double>(row[i]))) * row[d + i];
          EXPECT_NEAR(z[r * d + i], gated, 1e-6 * (1.0 + std::abs(gated)));
        }
      }
      if (norm_first.empty()) norm_first = y, silu_first = z;
      EXPECT_EQ(norm_first, y);
      EXPECT_EQ(silu_first, z);
    }
  }
}

TEST(DecoderKernels, SiluOfExtremes) {
  const std::vector<float> x{-1e30f, -100.0f, -88.0f, 0.0f, 88.0f, 1e30f, 1, 1, 1, 1, 1, 1};
  for (const Simd level : levels()) {
    std::vector<float> y(6);
    DecoderKernels(false, level).silu_mul(x.data(), 1, 6, y.data());
    EXPECT_LE(std::abs(y[1]), 1e-30f);
    EXPECT_EQ(y[3], 0.0f);
    EXPECT_EQ(y[4], 88.0f);
    EXPECT_EQ(y[5], 1e30f);
    for (const float v : y) EXPECT_FALSE(std::isnan(v));
  }
}

TEST(DecoderKernels, RopeKeepsLengthAndTurnsPairs) {
  const int d = 6;
  const std::vector<float> x{1, 2, 3, 4, 5, 6};
  const std::vector<float> cos{0, 1, 0.6f}, sin{1, 0, 0.8f};
  std::vector<float> y(d);
  DecoderKernels().rope(x.data(), d, 1, d, cos.data(), sin.data(), y.data());
  EXPECT_EQ(y[0], -4.0f);
  EXPECT_EQ(y[3], 1.0f);
  EXPECT_EQ(y[1], 2.0f);
  EXPECT_EQ(y[4], 5.0f);
  EXPECT_NEAR(y[2], 3 * 0.6 - 6 * 0.8, 1e-6);
  EXPECT_NEAR(y[5], 6 * 0.6 + 3 * 0.8, 1e-6);
}

struct Case {
  std::int64_t n;
  int n_q_heads, n_kv_heads, head_dim;
  std::int64_t sinks;
  std::vector<std::int64_t> key_end, value_end;
  std::vector<float> q, k, v, coded_k, coded_v;

  Case(std::int64_t n_, int qh, int kvh, int d)
      : n(n_), n_q_heads(qh), n_kv_heads(kvh), head_dim(d), sinks(0) {
    q = normals(20, qh * n * d, 2.0);
    k = normals(21, kvh * n * d);
    v = normals(22, kvh * n * d);
    coded_k = normals(23, kvh * n * d);
    coded_v = normals(24, kvh * n * d);
  }
  AttentionInput input() const {
    return {n,        n_q_heads, n_kv_heads,     head_dim,       q.data(),
            k.data(), v.data(),  coded_k.data(), coded_v.data(), {sinks, key_end, value_end}};
  }
  // One row at a time in double.
  std::vector<double> oracle() const {
    std::vector<double> out(static_cast<std::size_t>(n * n_q_heads * head_dim));
    for (int h = 0; h < n_q_heads; ++h)
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t base =
            static_cast<std::int64_t>(h / (n_q_heads / n_kv_heads)) * n * head_dim;
        std::vector<double> p(static_cast<std::size_t>(i + 1));
        double top = -1e300, sum = 0.0;
        for (std::int64_t j = 0; j <= i; ++j) {
          const bool is_coded = !key_end.empty() && j >= sinks && j < key_end[i];
          const float* key = (is_coded ? coded_k : k).data() + base + j * head_dim;
          for (int c = 0; c < head_dim; ++c)
            p[j] += static_cast<double>(q[(h * n + i) * head_dim + c]) * key[c];
          p[j] /= std::sqrt(static_cast<double>(head_dim));
          top = std::max(top, p[j]);
        }
        for (double& x : p) sum += x = std::exp(x - top);
        for (std::int64_t j = 0; j <= i; ++j) {
          const bool is_coded = !value_end.empty() && j >= sinks && j < value_end[i];
          const float* value = (is_coded ? coded_v : v).data() + base + j * head_dim;
          for (int c = 0; c < head_dim; ++c)
            out[(i * n_q_heads + h) * head_dim + c] += p[j] / sum * value[c];
        }
      }
    return out;
  }
  void check(const char* what) const {
    const auto want = oracle();
    std::vector<float> first;
    for (const Simd level : levels()) {
      std::vector<float> out(want.size());
      DecoderKernels(false, level).attention(input(), out.data());
      for (std::size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(out[i], want[i], 4e-6)
            << what << " n " << n << " d " << head_dim << " at " << i;
      if (first.empty()) first = out;
      EXPECT_EQ(first, out) << what << ' ' << simd_name(level);
    }
  }
};

TEST(DecoderKernels, AttentionAgainstF64) {
  for (const std::int64_t n : {1, 2, 15, 16, 17, 31, 32, 33, 101, 300})
    for (const auto& [qh, kvh, d] : {std::tuple{3, 1, 64}, {4, 2, 16}, {2, 2, 10}}) {
      Case c(n, qh, kvh, d);
      c.check("exact");
      for (std::int64_t i = 0; i < n; ++i) c.key_end.push_back(i + 1);
      c.check("keys coded");
      c.value_end = c.key_end;
      c.check("all coded");
      c.sinks = 4;
      for (std::int64_t i = 0; i < n; ++i) {
        c.key_end[i] = i + 1 - 20;
        c.value_end[i] = i / 32 * 32;
      }
      c.check("window");
    }
}

TEST(DecoderKernels, AttentionRowsStandAlone) {  // a longer prompt does not change its first rows
  Case c(150, 2, 1, 32);
  for (std::int64_t i = 0; i < c.n; ++i) c.key_end.push_back(i - 37), c.value_end.push_back(i - 5);
  c.sinks = 3;
  std::vector<float> all(static_cast<std::size_t>(c.n * 64));
  DecoderKernels().attention(c.input(), all.data());
  for (const std::int64_t m : {1, 7, 16, 70, 149}) {
    Case part(m, 2, 1, 32);
    const auto cut = [&](const std::vector<float>& from, int heads) {
      std::vector<float> to;
      for (int h = 0; h < heads; ++h)
        to.insert(to.end(), from.begin() + h * c.n * 32, from.begin() + (h * c.n + m) * 32);
      return to;
    };
    part.q = cut(c.q, 2), part.k = cut(c.k, 1), part.v = cut(c.v, 1);
    part.coded_k = cut(c.coded_k, 1), part.coded_v = cut(c.coded_v, 1);
    part.sinks = c.sinks;
    part.key_end.assign(c.key_end.begin(), c.key_end.begin() + m);
    part.value_end.assign(c.value_end.begin(), c.value_end.begin() + m);
    std::vector<float> some(static_cast<std::size_t>(m * 64));
    DecoderKernels().attention(part.input(), some.data());
    EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << m;
  }
}

TEST(DecoderKernels, BytesDoNotDependOnThreads) {
  const std::int64_t n = 130, n_in = 96, n_out = 1200;
  const auto x = normals(30, n * n_in), weights = normals(31, n_out * n_in);
  PackedMatrix w(n_out, n_in, false);
  w.set_rows(0, n_out, weights.data());
  Case c(n, 3, 1, 48);
  const int before = omp_get_max_threads();
  std::vector<float> first, first_attention;
  for (const int threads : {1, 2, 3, 7}) {
    omp_set_num_threads(threads);
    std::vector<float> y(static_cast<std::size_t>(n * n_out)), o(static_cast<std::size_t>(n * 144));
    DecoderKernels().linear(w, x.data(), n, nullptr, nullptr, y.data());
    DecoderKernels().attention(c.input(), o.data());
    if (first.empty()) first = y, first_attention = o;
    EXPECT_EQ(first, y);
    EXPECT_EQ(first_attention, o);
  }
  omp_set_num_threads(before);
}

}  // namespace
}  // namespace vi::model
