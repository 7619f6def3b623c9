#include "core/decoder/decoder_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/decoder/decoder_lanes.h"

namespace vi::model {
namespace {

constexpr std::int64_t kLanes = lanes::kLanes;
constexpr std::int64_t kDepthBlock = 256;       // 16 KiB of a panel: half of the first-level cache
constexpr std::int64_t kPanelGroup = 36;        // panels of a task: 576 outputs
constexpr std::int64_t kTileFloats = 96 << 10;  // packed rows of a task
constexpr std::int64_t kForkRows = 16;          // fewer rows are not worth waking threads for

const lanes::Table& table(Simd level) {
  switch (level) {
    case Simd::avx512:
      return lanes::avx512();
    case Simd::avx2:
      return lanes::avx2();
    case Simd::scalar:
      break;
  }
  return lanes::scalar();
}

// x rows [m, k] -> groups of t.rows rows, [group][k][rows of the group].
void pack_rows(const lanes::Table& t, const float* x, std::int64_t m, std::int64_t k, float* out) {
  for (std::int64_t r0 = 0; r0 < m; r0 += t.rows) {
    const std::int64_t rows = std::min<std::int64_t>(t.rows, m - r0);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* row = x + (r0 + r) * k;
      float* to = out + r0 * k + r;
      for (std::int64_t i = 0; i < k; ++i) to[i * rows] = row[i];
    }
  }
}

}  // namespace

PackedMatrix::PackedMatrix(std::int64_t n_out, std::int64_t n_in, bool bf16)
    : n_out_(n_out), n_in_(n_in) {
  VI_CHECK(n_out > 0 && n_in > 0, "matrix of {} x {}", n_out, n_in);
  const auto size = static_cast<std::size_t>(panels() * kLanes * n_in);
  if (bf16)
    bf16_.resize(size);
  else
    f32_.resize(size);
}

void PackedMatrix::set_rows(std::int64_t first, std::int64_t n, const float* rows) {
  VI_CHECK(first >= 0 && n >= 0 && first + n <= n_out_, "rows [{}, {}) of {}", first, first + n,
           n_out_);
  for (std::int64_t r = 0; r < n; ++r) {
    const std::int64_t at = (first + r) / kLanes * n_in_ * kLanes + (first + r) % kLanes;
    const float* row = rows + r * n_in_;
    if (!f32_.empty())
      for (std::int64_t i = 0; i < n_in_; ++i) f32_[at + i * kLanes] = row[i];
    else
      for (std::int64_t i = 0; i < n_in_; ++i) bf16_[at + i * kLanes] = float_to_bf16(row[i]);
  }
}

void PackedMatrix::get_row(std::int64_t row, float* out) const {
  VI_CHECK(row >= 0 && row < n_out_, "row {} of {}", row, n_out_);
  const std::int64_t at = row / kLanes * n_in_ * kLanes + row % kLanes;
  for (std::int64_t i = 0; i < n_in_; ++i)
    out[i] = f32_.empty() ? bf16_to_float(bf16_[at + i * kLanes]) : f32_[at + i * kLanes];
}

void DecoderKernels::linear(const PackedMatrix& w, const float* x, std::int64_t n,
                            const float* bias, const float* residual, float* y) const {
  const lanes::Table& t = table(level_);
  const std::int64_t k = w.n_in(), n_out = w.n_out();
  const std::int64_t tile =
      std::clamp<std::int64_t>(kTileFloats / k / t.rows * t.rows, t.rows, 96 / t.rows * t.rows);
  const std::int64_t tiles = (n + tile - 1) / tile;
  const std::int64_t groups = (w.panels() + kPanelGroup - 1) / kPanelGroup;
#pragma omp parallel
  {
    std::vector<float> packed(static_cast<std::size_t>(std::min(tile, n) * k));
    std::vector<float> acc(static_cast<std::size_t>(std::min(tile, n) * kLanes));
    std::vector<float> wide(w.bf16() ? kDepthBlock * kLanes : 0);
    std::int64_t packed_tile = -1;
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < tiles * groups; ++task) {
      const std::int64_t r0 = task / groups * tile, m = std::min(tile, n - r0);
      const std::int64_t p0 = task % groups * kPanelGroup,
                         p1 = std::min(p0 + kPanelGroup, w.panels());
      if (packed_tile != task / groups) {
        pack_rows(t, x + r0 * k, m, k, packed.data());
        packed_tile = task / groups;
      }
      for (std::int64_t p = p0; p < p1; ++p) {
        for (std::int64_t k0 = 0; k0 < k; k0 += kDepthBlock) {
          const std::int64_t depth = std::min(kDepthBlock, k - k0), at = (p * k + k0) * kLanes;
          if (w.bf16()) t.widen(w.bf16() + at, depth * kLanes, wide.data());
          const float* panel = w.bf16() ? wide.data() : w.f32() + at;
          for (std::int64_t g = 0; g < m; g += t.rows) {
            const int rows = static_cast<int>(std::min<std::int64_t>(t.rows, m - g));
            t.gemm(rows, packed.data() + g * k + k0 * rows, 1, rows, panel, kLanes, depth,
                   acc.data() + g * kLanes, kLanes, k0 > 0);
          }
        }
        const std::int64_t c0 = p * kLanes, columns = std::min(kLanes, n_out - c0);
        if (bias)
          for (std::int64_t r = 0; r < m; ++r)
            for (std::int64_t c = 0; c < columns; ++c) acc[r * kLanes + c] += bias[c0 + c];
        if (bf16_) t.round_bf16(acc.data(), m * kLanes);
        if (residual) {
          for (std::int64_t r = 0; r < m; ++r)
            for (std::int64_t c = 0; c < columns; ++c)
              acc[r * kLanes + c] += residual[(r0 + r) * n_out + c0 + c];
          if (bf16_) t.round_bf16(acc.data(), m * kLanes);
        }
        for (std::int64_t r = 0; r < m; ++r)
          std::memcpy(y + (r0 + r) * n_out + c0, acc.data() + r * kLanes,
                      static_cast<std::size_t>(columns) * sizeof(float));
      }
    }
  }
}

void DecoderKernels::rms_norm(const float* x, std::int64_t x_stride, std::int64_t n, std::int64_t d,
                              const float* weight, float eps, float* y,
                              std::int64_t y_stride) const {
  const lanes::Table& t = table(level_);
#pragma omp parallel for schedule(static) if (n >= kForkRows)
  for (std::int64_t r = 0; r < n; ++r) {
    const float* in = x + r * x_stride;
    float* out = y + r * y_stride;
    const float scale = 1.0f / std::sqrt(t.sum_squares(in, d) / static_cast<float>(d) + eps);
    for (std::int64_t i = 0; i < d; ++i) out[i] = in[i] * scale;
    if (bf16_) t.round_bf16(out, d);
    for (std::int64_t i = 0; i < d; ++i) out[i] *= weight[i];
    if (bf16_) t.round_bf16(out, d);
  }
}

void DecoderKernels::rope(const float* x, std::int64_t x_stride, std::int64_t n, int head_dim,
                          const float* cos, const float* sin, float* y) const {
  const lanes::Table& t = table(level_);
  const std::int64_t half = head_dim / 2;
#pragma omp parallel for schedule(static) if (n >= kForkRows)
  for (std::int64_t r = 0; r < n; ++r) {
    const float* in = x + r * x_stride;
    float* out = y + r * head_dim;
    if (cos == nullptr) {
      std::memcpy(out, in, static_cast<std::size_t>(head_dim) * sizeof(float));
      continue;
    }
    for (std::int64_t i = 0; i < half; ++i) {
      const float c = cos[r * half + i], s = sin[r * half + i];
      const float a = in[i], b = in[i + half];
      out[i] = a * c - b * s;
      out[i + half] = b * c + a * s;
    }
    if (bf16_) t.round_bf16(out, head_dim);
  }
}

void DecoderKernels::silu_mul(const float* x, std::int64_t n, std::int64_t d, float* y) const {
  const lanes::Table& t = table(level_);
#pragma omp parallel for schedule(static) if (n >= kForkRows)
  for (std::int64_t r = 0; r < n; ++r) {
    const float* up = x + r * 2 * d + d;
    float* out = y + r * d;
    t.silu(x + r * 2 * d, d, out);
    if (bf16_) t.round_bf16(out, d);
    for (std::int64_t i = 0; i < d; ++i) out[i] *= up[i];
    if (bf16_) t.round_bf16(out, d);
  }
}

void DecoderKernels::log_sum_exp(const float* x, std::int64_t n, std::int64_t d,
                                 double* out) const {
  const lanes::Table& t = table(level_);
#pragma omp parallel for schedule(static) if (n >= kForkRows)
  for (std::int64_t r = 0; r < n; ++r) out[r] = t.log_sum_exp(x + r * d, d);
}

}  // namespace vi::model
