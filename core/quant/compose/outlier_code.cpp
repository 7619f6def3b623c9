#include "core/quant/compose/outlier_code.h"

#include <algorithm>
#include <cmath>

#include "core/quant/finite.h"

namespace vi::quant {
namespace {

constexpr std::uint16_t kUnused = 0xffff;
std::uint16_t half_of(float value) {
  return float_to_half(std::clamp(value, -65504.0f, 65504.0f));
}

}  // namespace

OutlierCode::OutlierCode(const transform::HeadTransform* transform, int slots,
                         std::unique_ptr<HeadCoder> inner)
    : BlockCoder(inner->head_dim(), {inner.get()}),
      transform_(transform),
      slots_(slots),
      inner_(std::move(inner)) {
  VI_CHECK(slots >= 1 && slots < head_dim_, "{} outliers of {} channels", slots, head_dim_);
  set_block_bytes(block_ * slots_ * 4 + inner_->stream_bytes(block_));
}

std::vector<int> OutlierCode::pick(const float* row) const {
  std::vector<float> y(row, row + head_dim_);
  if (transform_) transform_->forward(y.data(), 1);
  std::vector<int> channels;
  for (int i = 0; i < head_dim_; ++i)
    if (std::fabs(y[i]) > 1.0f) channels.push_back(i);
  std::stable_sort(channels.begin(), channels.end(),
                   [&](int a, int b) { return std::fabs(y[a]) > std::fabs(y[b]); });
  if (channels.size() > static_cast<std::size_t>(slots_)) channels.resize(slots_);
  std::sort(channels.begin(), channels.end());
  return channels;
}

void OutlierCode::encode(const float* rows, std::size_t n, std::size_t first,
                         std::uint8_t* stream) const {
  check_whole(first, n);
  detail::check_finite(rows, n, head_dim_);
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    std::uint8_t* base = stream + block * block_bytes_;
    for (std::size_t t = 0; t < count; ++t) {
      const float* row = rows + (at + t) * head_dim_;
      const std::vector<int> channels = pick(row);
      for (int s = 0; s < slots_; ++s) {
        const bool used = static_cast<std::size_t>(s) < channels.size();
        std::uint8_t* slot = base + ((inside + t) * slots_ + s) * 4;
        put_half(slot, used ? static_cast<std::uint16_t>(channels[s]) : kUnused);
        put_half(slot + 2, used ? half_of(row[channels[s]]) : std::uint16_t{0});
      }
    }
    inner_->encode(rows + at * head_dim_, count, inside, base + block_ * slots_ * 4);
  });
}

void OutlierCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                         float* rows) const {
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    const std::uint8_t* base = stream + block * block_bytes_;
    inner_->decode(base + block_ * slots_ * 4, inside, count, rows + at * head_dim_);
    for (std::size_t t = 0; t < count; ++t)
      for (int s = 0; s < slots_; ++s) {
        const std::uint8_t* slot = base + ((inside + t) * slots_ + s) * 4;
        const std::uint16_t channel = get_half(slot);
        if (channel < head_dim_) rows[(at + t) * head_dim_ + channel] = half_to_float(get_half(slot + 2));
      }
  });
}

void OutlierCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  detail::check_finite(rows, n, head_dim_);
  const std::vector<float> kept(rows, rows + n * head_dim_);
  inner_->reconstruct(rows, n, out);
  for (std::size_t t = 0; t < n; ++t) {
    const float* row = kept.data() + t * head_dim_;
    for (const int channel : pick(row)) out[t * head_dim_ + channel] = half_to_float(half_of(row[channel]));
  }
}

}  // namespace vi::quant
