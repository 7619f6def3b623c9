#include "cuda/decode_attention/oracle.h"

#include <cmath>
#include <limits>

#include "core/common/half.h"
#include "core/quant/code_layout.h"

namespace vi::cuda {
namespace {

double element(const void* p, std::int64_t i, Dtype dtype) {
  if (dtype == Dtype::f32) return static_cast<const float*>(p)[i];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(p)[i];
  return dtype == Dtype::f16 ? half_to_float(bits) : bf16_to_float(bits);
}

// Reconstruction of coded token `token` of one (sequence, KV head).
void decode_row(const DecodeParams& p, const CodedSide& side, int sequence, int head, int token,
                double* row) {
  const int n_books = p.head_dim / side.dsub, ksub = 1 << side.code_bits;
  const quant::CodeLayout layout{n_books, side.code_bits};
  const std::uint8_t* stream = side.codes + head * side.head_stride;
  int local = token;
  if (p.block_table) {
    stream += p.block_table[sequence * p.max_pages + token / p.page_tokens] * side.outer_stride;
    local = token % p.page_tokens;
  } else {
    stream += sequence * side.outer_stride;
  }
  for (int m = 0; m < n_books; ++m) {
    const unsigned code = quant::get_code(layout, stream, local, m);
    const std::int64_t book = side.shared ? head : static_cast<std::int64_t>(head) * n_books + m;
    for (int d = 0; d < side.dsub; ++d)
      row[m * side.dsub + d] =
          element(side.centroids, (book * ksub + code) * side.dsub + d, Dtype::f16);
  }
}

struct Softmax {  // keeps everything, then sums: no online trick shared with the kernels
  std::vector<double> score;
  std::vector<double> rows;
};

void finish(const Softmax& s, int head_dim, double* out, double* lse) {
  const std::size_t n = s.score.size();
  for (int d = 0; d < head_dim; ++d) out[d] = 0;
  *lse = -std::numeric_limits<double>::infinity();
  if (n == 0) return;
  double top = s.score[0], sum = 0;
  for (double v : s.score) top = std::max(top, v);
  for (std::size_t t = 0; t < n; ++t) {
    const double w = std::exp(s.score[t] - top);
    sum += w;
    for (int d = 0; d < head_dim; ++d) out[d] += w * s.rows[t * head_dim + d];
  }
  for (int d = 0; d < head_dim; ++d) out[d] /= sum;
  *lse = (top + std::log(sum)) / std::log(2.0);
}

}  // namespace

OracleResult oracle_decode(const DecodeParams& p, int b, int kv_head) {
  const int group = p.n_q_heads / p.n_kv_heads, d = p.head_dim;
  const int n_coded = p.kv_len[b], n_dense = p.dense_len ? p.dense_len[b] : 0;
  OracleResult r{std::vector<double>(static_cast<std::size_t>(p.n_q_heads) * d),
                 std::vector<double>(p.n_q_heads)};
  for (int h = 0; h < p.n_kv_heads; ++h) {
    if (kv_head >= 0 && h != kv_head) continue;
    std::vector<double> keys(static_cast<std::size_t>(n_coded + n_dense) * d);
    Softmax s;
    s.rows.resize(keys.size());
    for (int t = 0; t < n_coded; ++t) {
      decode_row(p, p.key, b, h, t, &keys[static_cast<std::size_t>(t) * d]);
      decode_row(p, p.value, b, h, t, &s.rows[static_cast<std::size_t>(t) * d]);
    }
    for (int t = 0; t < n_dense; ++t)
      for (int i = 0; i < d; ++i) {
        const std::int64_t at =
            ((static_cast<std::int64_t>(b) * p.n_kv_heads + h) * p.dense_capacity + t) * d + i;
        keys[static_cast<std::size_t>(n_coded + t) * d + i] = element(p.dense_key, at, p.dtype);
        s.rows[static_cast<std::size_t>(n_coded + t) * d + i] = element(p.dense_value, at, p.dtype);
      }
    for (int g = 0; g < group; ++g) {
      const int head = h * group + g;
      s.score.assign(n_coded + n_dense, 0);
      for (int t = 0; t < n_coded + n_dense; ++t) {
        double dot = 0;
        for (int i = 0; i < d; ++i)
          dot +=
              element(p.q, (static_cast<std::int64_t>(b) * p.n_q_heads + head) * d + i, p.dtype) *
              keys[static_cast<std::size_t>(t) * d + i];
        s.score[t] = dot * p.scale;
      }
      finish(s, d, &r.out[static_cast<std::size_t>(head) * d], &r.lse[head]);
    }
  }
  return r;
}

OracleResult oracle_dense(const DenseParams& p, int b, int kv_head) {
  DecodeParams all;  // a coded cache of no tokens, and every row exact
  const std::vector<int> none(p.batch, 0);
  all.q = p.q;
  all.kv_len = none.data();
  all.dense_key = p.key;
  all.dense_value = p.value;
  all.dense_len = p.kv_len;
  all.dense_capacity = p.capacity;
  all.batch = p.batch;
  all.n_q_heads = p.n_q_heads;
  all.n_kv_heads = p.n_kv_heads;
  all.head_dim = p.head_dim;
  all.dtype = p.dtype;
  all.scale = p.scale;
  return oracle_decode(all, b, kv_head);
}

}  // namespace vi::cuda
