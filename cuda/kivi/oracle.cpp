#include "cuda/kivi/oracle.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/common/half.h"
#include "cuda/kivi/layout.h"

namespace vi::cuda {
namespace {

struct Group {
  std::uint16_t scale = 0, minimum = 0;
  unsigned code(float x) const {
    const float s = half_to_float(scale), low = half_to_float(minimum);
    if (s == 0) return 0;
    return static_cast<unsigned>(std::nearbyint(std::clamp((x - low) / s, 0.f, 3.f)));
  }
};

Group measure(const float* x, int stride, int n) {
  float low = x[0], high = x[0];
  for (int i = 1; i < n; ++i) {
    low = std::min(low, x[i * stride]);
    high = std::max(high, x[i * stride]);
  }
  const auto half = [](float v) { return float_to_half(std::clamp(v, -65504.f, 65504.f)); };
  return {half((high - low) / kivi::kTop), half(low)};
}

void put_half(std::uint32_t* record, int at, std::uint16_t bits) {
  record[at / 2] |= static_cast<std::uint32_t>(bits) << at % 2 * 16;
}
double get_half(const std::uint32_t* record, int at) {
  return half_to_float(static_cast<std::uint16_t>(record[at / 2] >> at % 2 * 16));
}

}  // namespace

std::vector<std::uint32_t> oracle_kivi_encode(const float* key, const float* value, int n,
                                              int head_dim) {
  using namespace kivi;
  const int words = record_words(head_dim), blocks = (n + kBlock - 1) / kBlock;
  std::vector<std::uint32_t> records(static_cast<std::size_t>(blocks) * words);
  for (int block = 0; block < blocks; ++block) {
    std::uint32_t* record = &records[static_cast<std::size_t>(block) * words];
    const int tokens = std::min(kBlock, n - block * kBlock);
    const float* k = key + static_cast<std::size_t>(block) * kBlock * head_dim;
    const float* v = value + static_cast<std::size_t>(block) * kBlock * head_dim;
    for (int d = 0; d < head_dim; ++d) {
      const Group group = measure(k + d, head_dim, tokens);
      put_half(record, key_half_at(head_dim, d, false), group.scale);
      put_half(record, key_half_at(head_dim, d, true), group.minimum);
      for (int t = 0; t < tokens; ++t) {
        const CodeAt at = key_code_at(t, d);
        record[at.word] |= group.code(k[t * head_dim + d]) << at.shift;
      }
    }
    for (int t = 0; t < tokens; ++t)
      for (int first = 0; first < head_dim; first += kBlock) {
        const Group group = measure(v + t * head_dim + first, 1, kBlock);
        put_half(record, value_half_at(head_dim, t, first, false), group.scale);
        put_half(record, value_half_at(head_dim, t, first, true), group.minimum);
        for (int d = first; d < first + kBlock; ++d) {
          const CodeAt at = value_code_at(head_dim, t, d);
          record[at.word] |= group.code(v[t * head_dim + d]) << at.shift;
        }
      }
  }
  return records;
}

std::vector<double> oracle_kivi_decode(const std::uint32_t* records, int n, int head_dim,
                                       bool key) {
  using namespace kivi;
  std::vector<double> rows(static_cast<std::size_t>(n) * head_dim);
  for (int i = 0; i < n; ++i)
    for (int d = 0; d < head_dim; ++d) {
      const std::uint32_t* record =
          records + static_cast<std::size_t>(i / kBlock) * record_words(head_dim);
      const int t = i % kBlock;
      const CodeAt at = key ? key_code_at(t, d) : value_code_at(head_dim, t, d);
      const auto half = [&](bool minimum) {
        return get_half(record, key ? key_half_at(head_dim, d, minimum)
                                    : value_half_at(head_dim, t, d, minimum));
      };
      rows[static_cast<std::size_t>(i) * head_dim + d] =
          (record[at.word] >> at.shift & kTop) * half(false) + half(true);
    }
  return rows;
}

std::vector<double> oracle_kivi_attention(const float* q, int n_heads, const std::uint32_t* records,
                                          int n, int head_dim, double scale) {
  const std::vector<double> k = oracle_kivi_decode(records, n, head_dim, true),
                            v = oracle_kivi_decode(records, n, head_dim, false);
  std::vector<double> out(static_cast<std::size_t>(n_heads) * head_dim), score(n);
  for (int h = 0; h < n_heads; ++h) {
    double top = -INFINITY, sum = 0;
    for (int t = 0; t < n; ++t) {
      double s = 0;
      for (int d = 0; d < head_dim; ++d)
        s += static_cast<double>(q[h * head_dim + d]) *
             k[static_cast<std::size_t>(t) * head_dim + d];
      score[t] = s * scale;
      top = std::max(top, score[t]);
    }
    double* o = &out[static_cast<std::size_t>(h) * head_dim];
    for (int t = 0; t < n; ++t) {
      const double p = std::exp(score[t] - top);
      sum += p;
      for (int d = 0; d < head_dim; ++d) o[d] += p * v[static_cast<std::size_t>(t) * head_dim + d];
    }
    for (int d = 0; d < head_dim && n > 0; ++d) o[d] /= sum;
  }
  return out;
}

}  // namespace vi::cuda
