// Per-head maps of queries and outputs against the f64 oracle, and the identity they are for: a
// query mapped by A against keys mapped by A (orthogonal) scores as before, and outputs come back
// by A^T.
#include "cuda/map/map.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"
#include "cuda/common/buffer.h"
#include "cuda/decode_attention/cases.h"

namespace vi::cuda {
namespace {

#define VI_NEEDS_GPU() \
  if (!has_device()) GTEST_SKIP() << "no CUDA device"

struct Spec {
  int rows = 5, n_heads = 6, n_kv_heads = 2, head_dim = 128;
  bool before = true, after = true, hadamard = false, dense = false, transpose = false;
  Dtype dtype = Dtype::f16;
};

// Householder reflections: orthogonal, dense, one a head.
std::vector<float> orthogonal(int heads, int d) {
  Rng rng(d);
  std::vector<float> a(static_cast<std::size_t>(heads) * d * d), v(d);
  for (int h = 0; h < heads; ++h) {
    double norm = 0;
    for (float& x : v) {
      x = static_cast<float>(rng.normal());
      norm += static_cast<double>(x) * x;
    }
    for (int i = 0; i < d; ++i)
      for (int j = 0; j < d; ++j)
        a[(static_cast<std::size_t>(h) * d + i) * d + j] =
            static_cast<float>((i == j) - 2 * v[i] * v[j] / norm);
  }
  return a;
}

double check(const Spec& s) {
  Rng rng(s.head_dim + s.rows);
  const std::size_t n = static_cast<std::size_t>(s.rows) * s.n_heads * s.head_dim,
                    scales = static_cast<std::size_t>(s.n_kv_heads) * s.head_dim;
  std::vector<std::uint16_t> in(n);
  for (auto& v : in) {
    const float x = static_cast<float>(rng.normal());
    v = s.dtype == Dtype::f16 ? float_to_half(x) : float_to_bf16(x);
  }
  std::vector<float> before(scales), after(scales), dense = orthogonal(s.n_kv_heads, s.head_dim);
  for (auto& v : before) v = static_cast<float>(std::exp(0.3 * rng.normal()));
  for (auto& v : after) v = static_cast<float>(std::exp(0.3 * rng.normal()));
  MapParams host;
  host.in = in.data();
  host.before = s.before ? before.data() : nullptr;
  host.after = s.after ? after.data() : nullptr;
  host.dense = s.dense ? dense.data() : nullptr;
  host.transpose = s.transpose;
  host.hadamard = s.hadamard;
  host.rows = s.rows;
  host.n_heads = s.n_heads;
  host.n_kv_heads = s.n_kv_heads;
  host.head_dim = s.head_dim;
  host.dtype = s.dtype;
  const std::vector<double> want = oracle_map(host);
  Buffer<std::uint16_t> d_in(in), out(n);
  Buffer<float> d_before(before), d_after(after), d_dense(dense);
  out.fill(0xff);
  MapParams p = host;
  p.in = d_in.data();
  p.out = out.data();
  p.before = s.before ? d_before.data() : nullptr;
  p.after = s.after ? d_after.data() : nullptr;
  p.dense = s.dense ? d_dense.data() : nullptr;
  map_heads(p);
  VI_CUDA(cudaDeviceSynchronize());
  const auto bits = out.download();
  std::vector<float> got(n);
  for (std::size_t i = 0; i < n; ++i)
    got[i] = s.dtype == Dtype::f16 ? half_to_float(bits[i]) : bf16_to_float(bits[i]);
  p.out = d_in.data();  // in place: the same
  map_heads(p);
  VI_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(d_in.download(), bits);
  return relative_error(got.data(), want.data(), n);
}

TEST(Map, MatchesOracle) {
  VI_NEEDS_GPU();
  for (int head_dim : {64, 80, 96, 128, 256})
    for (int kind = 0; kind < 4; ++kind) {
      if (kind == 1 && (head_dim & (head_dim - 1))) continue;
      for (int rows : {1, 7, 8, 9, 33}) {
        Spec s;
        s.head_dim = head_dim;
        s.rows = rows;
        s.hadamard = kind == 1;
        s.dense = kind >= 2;
        s.transpose = kind == 3;
        s.before = rows != 7;
        s.after = rows % 2 == 0;
        s.dtype = rows == 9 ? Dtype::bf16 : Dtype::f16;
        EXPECT_LE(check(s), s.dtype == Dtype::f16 ? 4e-4 : 3e-3)
            << head_dim << " kind " << kind << " rows " << rows;
      }
    }
}

TEST(Map, Refusals) {
  MapParams p;
  EXPECT_THROW(map_heads(p), Error);
  float x = 0;
  p.in = p.out = &x;
  p.n_heads = 3;
  p.n_kv_heads = 2;
  p.head_dim = 64;
  p.rows = 1;
  EXPECT_THROW(map_heads(p), Error);
  p.n_heads = 4;
  p.head_dim = 96;
  p.hadamard = true;
  EXPECT_THROW(map_heads(p), Error);
}

}  // namespace
}  // namespace vi::cuda
