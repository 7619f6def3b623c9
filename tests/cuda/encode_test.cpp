// encode, fused and naive, against the f64 oracle: codes are equal except where two distances tie
// within f32's bound (counted and printed); packed bytes around them stay as they were; lengths
// around tiles and blocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"
#include "core/quant/code_layout.h"
#include "cuda/common/buffer.h"
#include "cuda/encode/oracle.h"

namespace vi::cuda {
namespace {

struct Spec {
  int head_dim = 128, dsub = 4, bits = 8, n_kv_heads = 2, n_tokens = 33;
  bool shared = false, hadamard = true, dense = false, scale = true, center = true;
  Dtype dtype = Dtype::f16;
  std::vector<int> first = {0};
  int page_tokens = 0;
};

// Encodes twice over a stream that already holds codes, and checks every code of it. Returns the
// ties.
long check(const Spec& s, bool naive, const std::string& what) {
  Rng rng(s.head_dim * 1000 + s.dsub * 100 + s.bits);
  const int batch = static_cast<int>(s.first.size()), d = s.head_dim, h = s.n_kv_heads,
            n_books = d / s.dsub;
  const std::size_t n = static_cast<std::size_t>(batch) * s.n_tokens * h * d;
  std::vector<float> rows(n), center(h * d), scale(h * d),
      dense(static_cast<std::size_t>(h) * d * d);
  for (std::size_t i = 0; i < n; ++i)
    rows[i] = static_cast<float>(rng.normal() * (i % 16 == 5 ? 20 : 1) + (i % d % 7 == 2 ? 3 : 0));
  for (auto& v : center) v = static_cast<float>(rng.normal());
  for (auto& v : scale) v = static_cast<float>(std::exp(rng.normal() * 0.5));
  for (auto& v : dense) v = static_cast<float>(rng.normal() / std::sqrt(static_cast<double>(d)));
  std::vector<std::uint16_t> half(n),
      book(static_cast<std::size_t>(h) * (s.shared ? 1 : n_books) * (1 << s.bits) * s.dsub);
  for (std::size_t i = 0; i < n; ++i)
    half[i] = s.dtype == Dtype::bf16 ? float_to_bf16(rows[i]) : float_to_half(rows[i]);
  for (auto& v : book) v = float_to_half(static_cast<float>(rng.normal() * 2));
  EncodeParams host;
  host.rows = s.dtype == Dtype::f32 ? static_cast<const void*>(rows.data()) : half.data();
  host.row_stride = h * d;
  host.head_stride = d;
  host.dtype = s.dtype;
  host.center = s.center ? center.data() : nullptr;
  host.inverse_scale = s.scale ? scale.data() : nullptr;
  host.dense = s.dense ? dense.data() : nullptr;
  host.hadamard = s.hadamard;
  host.centroids = book.data();
  host.dsub = s.dsub;
  host.code_bits = s.bits;
  host.shared = s.shared;
  host.batch = batch;
  host.n_tokens = s.n_tokens;
  host.n_kv_heads = h;
  host.head_dim = d;
  const std::vector<OracleCode> want = oracle_codes(host);

  int longest = 0;
  for (int f : s.first) longest = std::max(longest, f + s.n_tokens);
  const quant::CodeLayout layout{n_books, s.bits};
  const int page = s.page_tokens, pages = page ? (longest + page - 1) / page : 1;
  const std::size_t stream = (layout.stream_bytes(page ? page : longest) + 15) / 16 * 16;
  std::vector<std::uint8_t> codes(stream * h * (page ? batch * pages : batch));
  std::vector<int> table(static_cast<std::size_t>(batch) * pages);
  for (std::size_t i = 0; i < table.size(); ++i)
    table[i] = static_cast<int>((i * 7 + 3) % table.size());  // any permutation
  if (table.size() % 7 == 0) std::reverse(table.begin(), table.end());
  for (std::size_t i = 0; table.size() % 7 == 0 && i < table.size(); ++i)
    table[i] = static_cast<int>(table.size() - 1 - i);
  const auto at = [&](int b, int head, int token) {
    const std::size_t outer = page ? static_cast<std::size_t>(table[b * pages + token / page])
                                   : static_cast<std::size_t>(b);
    return codes.data() + (outer * h + head) * stream;
  };
  const auto local = [&](int token) { return page ? token % page : token; };
  const auto old_code = [&](int b, int head, int m, int token) {
    return static_cast<unsigned>((b * 31 + head * 17 + m * 5 + token * 3) & ((1 << s.bits) - 1));
  };
  for (int b = 0; b < batch; ++b)
    for (int head = 0; head < h; ++head)
      for (int t = 0; t < s.first[b]; ++t)
        for (int m = 0; m < n_books; ++m)
          quant::set_code(layout, at(b, head, t), local(t), m, old_code(b, head, m, t));

  Buffer<float> d_rows(rows), d_center(center), d_scale(scale), d_dense(dense);
  Buffer<std::uint16_t> d_half(half), d_book(book),
      scratch(static_cast<std::size_t>(batch) * s.n_tokens * h * n_books + 1);
  Buffer<std::uint8_t> d_codes(codes);
  Buffer<int> d_first(s.first), d_table(table);
  EncodeParams p = host;
  p.rows = s.dtype == Dtype::f32 ? static_cast<const void*>(d_rows.data()) : d_half.data();
  p.center = s.center ? d_center.data() : nullptr;
  p.inverse_scale = s.scale ? d_scale.data() : nullptr;
  p.dense = s.dense ? d_dense.data() : nullptr;
  p.centroids = d_book.data();
  p.codes = d_codes.data();
  p.code_head_stride = static_cast<std::int64_t>(stream);
  p.outer_stride = static_cast<std::int64_t>(stream) * h;
  p.first = d_first.data();
  p.block_table = page ? d_table.data() : nullptr;
  p.max_pages = pages;
  p.page_tokens = page;
  p.scratch = scratch.data();
  naive ? encode_naive(p) : encode(p);
  VI_CUDA(cudaDeviceSynchronize());
  codes = d_codes.download();

  long ties = 0, wrong = 0;
  for (int b = 0; b < batch; ++b)
    for (int head = 0; head < h; ++head) {
      const int end = s.first[b] + s.n_tokens;
      for (int t = 0; t < (end + 15) / 16 * 16 && (!page || t < pages * page); ++t)
        for (int m = 0; m < n_books; ++m) {
          const int got = static_cast<int>(quant::get_code(layout, at(b, head, t), local(t), m));
          if (t < s.first[b]) {
            wrong += got != static_cast<int>(old_code(b, head, m, t));
          } else if (t >= end) {
            wrong += got != 0;
          } else {
            const int row = b * s.n_tokens + t - s.first[b];
            const OracleCode& o = want[(static_cast<std::size_t>(row) * h + head) * n_books + m];
            if (got == o.code) continue;
            const bool tie = oracle_distance(host, row, head, m, got) - o.best <= 1e-5 * o.size;
            ties += tie;
            wrong += !tie;
          }
        }
    }
  std::printf("%-48s %8zu codes, %ld ties, %ld wrong\n", what.c_str(), want.size(), ties, wrong);
  EXPECT_EQ(wrong, 0) << what;
  EXPECT_LE(ties, static_cast<long>(want.size() / 2000 + 3)) << what;
  return ties;
}

#define VI_NEEDS_GPU() \
  if (!has_device()) GTEST_SKIP() << "no CUDA device"

TEST(Encode, EveryWidth) {
  VI_NEEDS_GPU();
  for (int dsub : {2, 4, 8})
    for (int bits : {1, 2, 3, 4, 5, 6, 7, 8, 10, 12}) {
      Spec s;
      s.dsub = dsub;
      s.bits = bits;
      s.n_tokens = bits > 8 ? 18 : 150;
      s.n_kv_heads = 1;
      s.shared = bits % 2 == 0;
      s.first = {0, 37};
      check(s, false, "fused d" + std::to_string(dsub) + "b" + std::to_string(bits));
      s.n_tokens = 18;
      check(s, true, "naive d" + std::to_string(dsub) + "b" + std::to_string(bits));
    }
  Spec s;
  s.dsub = 8;
  s.bits = 16;
  s.shared = true;
  s.n_tokens = 3;
  s.n_kv_heads = 1;
  check(s, false, "fused d8b16");
}

TEST(Encode, Lengths) {
  VI_NEEDS_GPU();
  for (int n : {1, 2, 15, 16, 17, 31, 32, 33, 113, 127, 128, 129, 257})
    for (int first : {0, 1, 15, 16, 100}) {
      Spec s;
      s.n_tokens = n;
      s.first = {first, first + 5};
      s.dtype = n % 3 == 0 ? Dtype::bf16 : n % 3 == 1 ? Dtype::f32 : Dtype::f16;
      s.page_tokens = n % 2 ? 0 : 48;
      s.bits = first == 15 ? 6 : 8;
      check(s, false, "fused " + std::to_string(n) + " tokens after " + std::to_string(first));
    }
}

TEST(Encode, Maps) {
  VI_NEEDS_GPU();
  for (int head_dim : {48, 64, 80, 96, 128, 256})
    for (int map = 0; map < 3; ++map) {
      if (map == 1 && (head_dim & (head_dim - 1))) continue;
      for (int n : {1, 16, 40}) {
        Spec s;
        s.head_dim = head_dim;
        s.hadamard = map == 1;
        s.dense = map == 2;
        s.scale = map != 0;
        s.n_tokens = n;
        s.first = {3};
        check(s, false,
              "fused head_dim " + std::to_string(head_dim) + " map " + std::to_string(map) + " n " +
                  std::to_string(n));
      }
    }
}

// Rows that lie in windows, of some sequences only: the codes of the same rows handed over alone, and nothing else touched.
TEST(Encode, RowsOfAWindow) {
  VI_NEEDS_GPU();
  constexpr int kBatch = 5, kHeads = 2, kDim = 64, kBooks = 16, kWindow = 83;
  const quant::CodeLayout layout{kBooks, 8};
  Rng rng(9);
  std::vector<std::uint16_t> rows(kBatch * kHeads * kWindow * kDim), book(kHeads * kBooks * 256 * 4);
  for (auto& v : rows) v = float_to_half(static_cast<float>(rng.normal()));
  for (auto& v : book) v = float_to_half(static_cast<float>(rng.normal()));
  const std::vector<int> first = {0, 16, 35, 160, 7}, from = {3, -1, 40, 19, -1};
  for (const int n : {1, 16, 32}) {
    const std::size_t stream = layout.stream_bytes(256);
    const std::vector<std::uint8_t> before(stream * kHeads * kBatch);
    Buffer<std::uint16_t> d_rows(rows), d_book(book);
    Buffer<int> d_first(first), d_from(from);
    Buffer<std::uint8_t> got(before);
    EncodeParams p;
    p.rows = d_rows.data(), p.row_stride = kDim, p.head_stride = kWindow * kDim;
    p.centroids = d_book.data(), p.dsub = 4, p.code_bits = 8;
    p.codes = got.data(), p.code_head_stride = static_cast<std::int64_t>(stream), p.outer_stride = p.code_head_stride * kHeads;
    p.first = d_first.data(), p.from = d_from.data(), p.window_rows = kHeads * kWindow;
    p.batch = kBatch, p.n_tokens = n, p.n_kv_heads = kHeads, p.head_dim = kDim;
    encode(p);
    Buffer<std::uint8_t> want(before);
    for (int b = 0; b < kBatch; ++b) {
      if (from[b] < 0) continue;
      EncodeParams one = p;
      one.from = nullptr, one.batch = 1;
      one.rows = d_rows.data() + (static_cast<std::int64_t>(b) * kHeads * kWindow + from[b]) * kDim;
      one.first = d_first.data() + b;
      one.codes = want.data() + b * p.outer_stride;
      encode(one);
    }
    VI_CUDA(cudaDeviceSynchronize());
    EXPECT_EQ(got.download(), want.download()) << n << " tokens";
    EXPECT_NE(got.download(), before);
    EXPECT_THROW(encode_naive(p), Error);
  }
}

TEST(Encode, Refusals) {
  EncodeParams p;
  EXPECT_THROW(encode(p), Error);
}

}  // namespace
}  // namespace vi::cuda
