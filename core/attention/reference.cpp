#include "core/attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/common/error.h"

namespace vi::attention {
namespace {

using transform::Step;

// y -> x of one row in f64, the steps undone from the last to the first.
void undo(const transform::HeadTransform& transform, double* row) {
  const int d = transform.head_dim;
  for (auto step = transform.steps.rbegin(); step != transform.steps.rend(); ++step) {
    switch (step->kind) {
      case Step::Kind::center:
        for (int i = 0; i < d; ++i) row[i] += step->vector[i];
        break;
      case Step::Kind::scale:
        for (int i = 0; i < d; ++i) row[i] *= step->vector[i];
        break;
      case Step::Kind::hadamard:
        for (int half = 1; half < d; half *= 2)
          for (int i = 0; i < d; ++i)
            if ((i & half) == 0) {
              const double a = row[i], b = row[i + half];
              row[i] = a + b;
              row[i + half] = a - b;
            }
        for (int i = 0; i < d; ++i) row[i] /= std::sqrt(static_cast<double>(d));
        break;
      case Step::Kind::dense: {
        const std::vector<double> y(row, row + d);
        for (int i = 0; i < d; ++i) {
          double sum = 0;
          for (int j = 0; j < d; ++j)
            sum += y[j] * step->inverse[static_cast<std::size_t>(j) * d + i];
          row[i] = sum;
        }
        break;
      }
      case Step::Kind::permute: {
        const std::vector<double> y(row, row + d);
        for (int i = 0; i < d; ++i) row[static_cast<int>(step->vector[i])] = y[i];
        break;
      }
      case Step::Kind::token_norm:
      case Step::Kind::token_range:
        fail("a vector view holds no per-token step");
    }
  }
}

void coded_rows(const SideView& side, int head_dim, double* rows) {
  const quant::VectorView* code = side.coder->vector_view();
  if (code == nullptr) {  // integer codes: their values are f32 by definition
    std::vector<float> row(head_dim);
    for (std::size_t t = 0; t < side.n_coded; ++t) {
      side.coder->decode(side.stream, t, 1, row.data());
      std::copy(row.begin(), row.end(), rows + t * head_dim);
    }
    return;
  }
  const std::size_t ksub = std::size_t{1} << code->layout.code_bits;
  for (std::size_t t = 0; t < side.n_coded; ++t) {
    double* row = rows + t * head_dim;
    for (int m = 0; m < code->layout.n_books; ++m) {
      const unsigned c = get_code(code->layout, side.stream, t, m);
      const float* centroid = code->centroids + ((code->shared ? 0 : m * ksub) + c) * code->dsub;
      std::copy(centroid, centroid + code->dsub, row + m * code->dsub);
    }
    if (code->transform != nullptr) undo(*code->transform, row);
  }
}

// One side decoded to f32 the plain way, as a cache without fused kernels would.
std::vector<float> expanded(const SideView& side, std::size_t n_sinks, std::size_t len,
                            int head_dim) {
  std::vector<float> rows(len * head_dim);
  std::copy_n(side.sinks, n_sinks * head_dim, rows.begin());
  float* next = rows.data() + n_sinks * head_dim;
  if (side.n_coded > 0) side.coder->decode(side.stream, 0, side.n_coded, next);
  next += side.n_coded * head_dim;
  std::copy_n(side.recent, (len - n_sinks - side.n_coded) * head_dim, next);
  return rows;
}

template <class Real>
void attend(const DecodeShape& shape, const Real* keys, const Real* values, std::size_t len,
            const float* q, Real* out) {
  const int d = shape.head_dim;
  std::fill(out, out + d, Real{0});
  if (len == 0) return;
  const Real scale = Real{1} / std::sqrt(static_cast<Real>(d));
  std::vector<Real> p(len);
  Real most = -std::numeric_limits<Real>::infinity();
  for (std::size_t t = 0; t < len; ++t) {
    Real score = 0;
    for (int i = 0; i < d; ++i) score += static_cast<Real>(q[i]) * keys[t * d + i];
    p[t] = score * scale;
    most = std::max(most, p[t]);
  }
  Real sum = 0;
  for (std::size_t t = 0; t < len; ++t) {
    p[t] = std::exp(p[t] - most);
    sum += p[t];
    for (int i = 0; i < d; ++i) out[i] += p[t] * values[t * d + i];
  }
  for (int i = 0; i < d; ++i) out[i] /= sum;
}

}  // namespace

void check_views(const DecodeShape& shape, const HeadView* heads) {
  VI_CHECK(shape.n_kv_heads > 0 && shape.n_q_heads > 0 && shape.head_dim > 0 &&
               shape.n_q_heads % shape.n_kv_heads == 0,
           "attention shape: {} query heads, {} KV heads, head_dim {}", shape.n_q_heads,
           shape.n_kv_heads, shape.head_dim);
  for (int h = 0; h < shape.n_kv_heads; ++h)
    for (const SideView* side : {&heads[h].key, &heads[h].value}) {
      const HeadView& view = heads[h];
      VI_CHECK(view.n_sinks + side->n_coded <= view.len,
               "head {}: {} sinks and {} coded of {} tokens", h, view.n_sinks, side->n_coded,
               view.len);
      if (side->n_coded == 0) continue;
      VI_CHECK(side->coder != nullptr && side->stream != nullptr, "head {}: coded without a coder",
               h);
      if (const quant::VectorView* code = side->coder->vector_view())
        VI_CHECK(code->dsub > 0 && code->layout.n_books * code->dsub == shape.head_dim,
                 "head {}: {} codes of {} dimensions at head_dim {}", h, code->layout.n_books,
                 code->dsub, shape.head_dim);
    }
}

std::vector<double> side_rows(const SideView& side, std::size_t n_sinks, std::size_t len,
                              int head_dim) {
  std::vector<double> rows(len * head_dim);
  std::copy_n(side.sinks, n_sinks * head_dim, rows.begin());
  if (side.n_coded > 0) coded_rows(side, head_dim, rows.data() + n_sinks * head_dim);
  std::copy_n(side.recent, (len - n_sinks - side.n_coded) * head_dim,
              rows.begin() + (n_sinks + side.n_coded) * head_dim);
  return rows;
}

void reference_attention(const DecodeShape& shape, const HeadView* heads, const float* q,
                         double* out) {
  check_views(shape, heads);
  const int d = shape.head_dim;
  for (int h = 0; h < shape.n_kv_heads; ++h) {
    const HeadView& view = heads[h];
    const auto keys = side_rows(view.key, view.n_sinks, view.len, d);
    const auto values = side_rows(view.value, view.n_sinks, view.len, d);
    for (int i = h * shape.group(); i < (h + 1) * shape.group(); ++i)
      attend(shape, keys.data(), values.data(), view.len, q + i * d, out + i * d);
  }
}

void naive_attention(const DecodeShape& shape, const HeadView* heads, const float* q, float* out) {
  check_views(shape, heads);
  const int d = shape.head_dim;
  for (int h = 0; h < shape.n_kv_heads; ++h) {
    const HeadView& view = heads[h];
    const auto keys = expanded(view.key, view.n_sinks, view.len, d);
    const auto values = expanded(view.value, view.n_sinks, view.len, d);
    for (int i = h * shape.group(); i < (h + 1) * shape.group(); ++i)
      attend(shape, keys.data(), values.data(), view.len, q + i * d, out + i * d);
  }
}

}  // namespace vi::attention
