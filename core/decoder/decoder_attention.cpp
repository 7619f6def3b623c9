// Causal attention of DecoderKernels. A task is a tile of query rows of one head: scores of the
// whole row by panels of 16 keys, softmax, then the sum of values by ascending key. A panel that
// holds exact and reconstructed tokens is done for both: scores are chosen per key, probabilities
// are split in two.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/common/error.h"
#include "core/decoder/decoder_kernels.h"
#include "core/decoder/decoder_lanes.h"

namespace vi::model {
namespace {

constexpr std::int64_t kLanes = lanes::kLanes;
constexpr std::int64_t kKeyBlock = 256;  // keys whose panels stay in cache over a tile's rows
constexpr std::int64_t kScoreFloats = 128 << 10;  // scores of a tile

const lanes::Table& table(Simd level) {
  return level == Simd::avx512 ? lanes::avx512()
         : level == Simd::avx2 ? lanes::avx2()
                               : lanes::scalar();
}

std::int64_t round_up(std::int64_t x) { return (x + kLanes - 1) / kLanes * kLanes; }

// Keys [n, d] as panels of 16 keys [n / 16][d][16], values [n, d] as rows padded to d16 columns and
// n16 rows: zeros beyond, which meet probabilities of zero.
struct PackedHeads {
  std::vector<float> keys, values;
  std::int64_t key_stride = 0, value_stride = 0;  // floats of a head
};

void pack_keys(const float* k, std::int64_t n, int d, float* out) {
  for (std::int64_t j = 0; j < n; ++j) {
    float* to = out + j / kLanes * d * kLanes + j % kLanes;
    for (int i = 0; i < d; ++i) to[i * kLanes] = k[j * d + i];
  }
}

PackedHeads pack(const float* k, const float* v, int heads, std::int64_t n, int d) {
  PackedHeads out;
  const std::int64_t n16 = round_up(n), d16 = round_up(d);
  out.key_stride = n16 * d;
  out.value_stride = n16 * d16;
  if (k) out.keys.assign(static_cast<std::size_t>(heads * out.key_stride), 0.0f);
  if (v) out.values.assign(static_cast<std::size_t>(heads * out.value_stride), 0.0f);
#pragma omp parallel for schedule(static)
  for (int h = 0; h < heads; ++h) {
    if (k) pack_keys(k + h * n * d, n, d, out.keys.data() + h * out.key_stride);
    if (v)
      for (std::int64_t j = 0; j < n; ++j)
        std::memcpy(out.values.data() + h * out.value_stride + j * d16, v + (h * n + j) * d,
                    static_cast<std::size_t>(d) * sizeof(float));
  }
  return out;
}

// What the keys [lo, hi) are to the rows [r0, r1).
enum class Kind { exact, coded, mixed };

Kind classify(std::span<const std::int64_t> end, std::int64_t sinks, std::int64_t r0,
              std::int64_t r1, std::int64_t lo, std::int64_t hi) {
  if (end.empty()) return Kind::exact;
  const auto [least, most] = std::minmax_element(end.begin() + r0, end.begin() + r1);
  if (std::max(lo, sinks) >= std::min(hi, *most)) return Kind::exact;
  if (lo >= sinks && hi <= *least) return Kind::coded;
  return Kind::mixed;
}

bool is_coded(std::span<const std::int64_t> end, std::int64_t sinks, std::int64_t row,
              std::int64_t key) {
  return key >= sinks && key < end[row];
}

class Tile {
 public:
  Tile(const lanes::Table& t, const AttentionInput& in, std::int64_t rows)
      : t_(t),
        in_(in),
        d_(in.head_dim),
        d16_(round_up(in.head_dim)),
        stride_(round_up(in.n) + kLanes) {
    query_.resize(static_cast<std::size_t>(rows * d_));
    scores_.resize(static_cast<std::size_t>(rows * stride_));
    out_.resize(static_cast<std::size_t>(rows * d16_));
  }

  // Rows [r0, r1) of query head h; keys and values point at its KV head.
  void run(int h, std::int64_t r0, std::int64_t r1, const float* keys, const float* coded_keys,
           const float* values, const float* coded_values) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(d_));
    for (std::int64_t g = r0; g < r1; g += t_.rows) {
      const std::int64_t rows = std::min<std::int64_t>(t_.rows, r1 - g);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = 0; i < d_; ++i)
          query_[(g - r0) * d_ + i * rows + r] = in_.q[(h * in_.n + g + r) * d_ + i] * scale;
    }
    for (std::int64_t k0 = 0; k0 < r1; k0 += kKeyBlock)
      for (std::int64_t g = r0; g < r1; g += t_.rows)
        score(g, std::min<std::int64_t>(g + t_.rows, r1), r0, k0, keys, coded_keys);
    for (std::int64_t g = r0; g < r1; g += t_.rows)
      normalise(g, std::min<std::int64_t>(g + t_.rows, r1), r0);
    for (std::int64_t k0 = 0; k0 < r1; k0 += kKeyBlock)
      for (std::int64_t g = r0; g < r1; g += t_.rows)
        mix(g, std::min<std::int64_t>(g + t_.rows, r1), r0, k0, values, coded_values);
  }

  const float* out() const { return out_.data(); }  // [rows, d16], not yet divided by sum()
  float sum(std::int64_t row) const { return sums_[row]; }

 private:
  void score(std::int64_t g0, std::int64_t g1, std::int64_t r0, std::int64_t k0, const float* keys,
             const float* coded_keys) {
    const int rows = static_cast<int>(g1 - g0);
    const float* q = query_.data() + (g0 - r0) * d_;
    float* s = scores_.data() + (g0 - r0) * stride_;
    const auto end = in_.range.key_end;
    for (std::int64_t k = k0; k < std::min(k0 + kKeyBlock, g1); k += kLanes) {
      const std::int64_t hi = std::min(k + kLanes, g1);
      const Kind kind = classify(end, in_.range.sinks, g0, g1, k, hi);
      t_.gemm(rows, q, 1, rows, (kind == Kind::coded ? coded_keys : keys) + k * d_, kLanes, d_,
              s + k, stride_, false);
      if (kind != Kind::mixed) continue;
      std::array<float, lanes::kMaxRows * kLanes> coded;
      t_.gemm(rows, q, 1, rows, coded_keys + k * d_, kLanes, d_, coded.data(), kLanes, false);
      for (int r = 0; r < rows; ++r)
        for (std::int64_t j = k; j < hi; ++j)
          if (is_coded(end, in_.range.sinks, g0 + r, j))
            s[r * stride_ + j] = coded[r * kLanes + j - k];
    }
  }

  // Row i sees keys [0, i], or the window's; what lies beyond in the group's panels gets probability 0.
  void normalise(std::int64_t g0, std::int64_t g1, std::int64_t r0) {
    const std::int64_t width = round_up(g1);
    sums_.resize(std::max(sums_.size(), static_cast<std::size_t>(g1 - r0)));
    for (std::int64_t r = g0; r < g1; ++r) {
      float* s = scores_.data() + (r - r0) * stride_;
      std::fill(s + r + 1, s + width, -std::numeric_limits<float>::infinity());
      if (in_.window > 0 && r >= in_.window)
        std::fill(s, s + r + 1 - in_.window, -std::numeric_limits<float>::infinity());
      sums_[r - r0] = t_.softmax(s, width);
    }
  }

  void mix(std::int64_t g0, std::int64_t g1, std::int64_t r0, std::int64_t k0, const float* values,
           const float* coded_values) {
    const int rows = static_cast<int>(g1 - g0);
    const float* p = scores_.data() + (g0 - r0) * stride_;
    float* out = out_.data() + (g0 - r0) * d16_;
    const auto end = in_.range.value_end;
    const std::int64_t last = round_up(std::min(k0 + kKeyBlock, g1));
    for (std::int64_t k = k0; k < last;) {
      const Kind kind = classify(end, in_.range.sinks, g0, g1, k, std::min(k + kLanes, g1));
      std::int64_t stop = k + kLanes;
      if (kind != Kind::mixed) {  // a run of like panels at once
        while (stop < last &&
               classify(end, in_.range.sinks, g0, g1, stop, std::min(stop + kLanes, g1)) == kind)
          stop += kLanes;
        add(rows, p + k, stride_, stop - k,
            (kind == Kind::coded ? coded_values : values) + k * d16_, out, k > 0);
      } else {
        std::array<float, lanes::kMaxRows * kLanes> exact{}, coded{};
        for (int r = 0; r < rows; ++r)
          for (std::int64_t j = k; j < std::min(stop, g1); ++j)
            (is_coded(end, in_.range.sinks, g0 + r, j) ? coded : exact)[r * kLanes + j - k] =
                p[r * stride_ + j];
        add(rows, exact.data(), kLanes, kLanes, values + k * d16_, out, k > 0);
        add(rows, coded.data(), kLanes, kLanes, coded_values + k * d16_, out, true);
      }
      k = stop;
    }
  }

  void add(int rows, const float* p, std::int64_t p_row, std::int64_t depth, const float* values,
           float* out, bool accumulate) {
    for (std::int64_t c = 0; c < d16_; c += kLanes)
      t_.gemm(rows, p, p_row, 1, values + c, d16_, depth, out + c, d16_, accumulate);
  }

  const lanes::Table& t_;
  const AttentionInput& in_;
  std::int64_t d_, d16_, stride_;
  std::vector<float> query_, scores_, out_, sums_;
};

}  // namespace

void DecoderKernels::attention(const AttentionInput& in, float* out) const {
  const lanes::Table& t = table(level_);
  const int d = in.head_dim, group = in.n_q_heads / in.n_kv_heads;
  const std::int64_t n = in.n, n_rows = static_cast<std::int64_t>(in.n_q_heads) * d;
  VI_CHECK(group * in.n_kv_heads == in.n_q_heads, "{} query heads for {}", in.n_q_heads,
           in.n_kv_heads);
  VI_CHECK(in.range.key_end.empty() || (in.coded_k && std::ssize(in.range.key_end) == n),
           "a range of coded keys without them");
  VI_CHECK(in.range.value_end.empty() || (in.coded_v && std::ssize(in.range.value_end) == n),
           "a range of coded values without them");
  const PackedHeads exact = pack(in.k, in.v, in.n_kv_heads, n, d);
  const PackedHeads coded =
      pack(in.range.key_end.empty() ? nullptr : in.coded_k,
           in.range.value_end.empty() ? nullptr : in.coded_v, in.n_kv_heads, n, d);
  const std::int64_t tile =
      std::clamp<std::int64_t>(kScoreFloats / std::max<std::int64_t>(n, 1), t.rows, 8 * t.rows) /
      t.rows * t.rows;
  const std::int64_t tiles = (n + tile - 1) / tile;
#pragma omp parallel
  {
    Tile work(t, in, std::min(tile, n));
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < tiles * in.n_q_heads; ++task) {
      // Long rows first; the heads of a group one after another, as they share keys and values.
      const std::int64_t r0 = (tiles - 1 - task / in.n_q_heads) * tile, r1 = std::min(r0 + tile, n);
      const int h = static_cast<int>(task % in.n_q_heads), kv = h / group;
      const auto head = [&](const std::vector<float>& all, std::int64_t stride) {
        return all.empty() ? nullptr : all.data() + kv * stride;
      };
      work.run(h, r0, r1, head(exact.keys, exact.key_stride), head(coded.keys, coded.key_stride),
               head(exact.values, exact.value_stride), head(coded.values, coded.value_stride));
      for (std::int64_t r = r0; r < r1; ++r) {
        float* to = out + r * n_rows + static_cast<std::int64_t>(h) * d;
        const float* from = work.out() + (r - r0) * round_up(d);
        for (int i = 0; i < d; ++i) to[i] = from[i] / work.sum(r - r0);
        if (bf16_) t.round_bf16(to, d);
      }
    }
  }
}

}  // namespace vi::model
