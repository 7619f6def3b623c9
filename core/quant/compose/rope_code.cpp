#include "core/quant/compose/rope_code.h"

#include <algorithm>
#include <cmath>

#include "core/quant/finite.h"

namespace vi::quant {

void rotate_rows(const std::vector<double>& frequencies, float* rows, std::size_t n,
                 std::size_t first, bool back) {
  const std::size_t half = frequencies.size();
  for (std::size_t t = 0; t < n; ++t) {
    float* low = rows + t * 2 * half;
    float* high = low + half;
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(first + t) * frequencies[i];
      const double c = std::cos(angle), s = back ? -std::sin(angle) : std::sin(angle);
      const double a = low[i], b = high[i];
      low[i] = static_cast<float>(a * c - b * s);
      high[i] = static_cast<float>(b * c + a * s);
    }
  }
}

RopeCode::RopeCode(std::vector<double> frequencies, std::size_t origin,
                   std::unique_ptr<HeadCoder> inner)
    : frequencies_(std::move(frequencies)), origin_(origin), inner_(std::move(inner)) {
  VI_CHECK(inner_->head_dim() == static_cast<int>(2 * frequencies_.size()),
           "{} RoPE frequencies at head_dim {}", frequencies_.size(), inner_->head_dim());
  VI_CHECK(!inner_->sequential() && !inner_->wants_keys() && inner_->fixed_bytes() == 0,
           "a coder that cannot stand behind the pre-RoPE tap");
}

void RopeCode::encode(const float* rows, std::size_t n, std::size_t first,
                      std::uint8_t* stream) const {
  detail::check_finite(rows, n, head_dim());
  std::vector<float> work(rows, rows + n * head_dim());
  rotate_rows(frequencies_, work.data(), n, origin_ + first, true);
  inner_->encode(work.data(), n, first, stream);
}

void RopeCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                      float* rows) const {
  inner_->decode(stream, first, n, rows);
  rotate_rows(frequencies_, rows, n, origin_ + first, false);
}

void RopeCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  reconstruct_at(rows, n, {origin_, nullptr}, out);
}

void RopeCode::reconstruct_at(const float* rows, std::size_t n, const Place& place,
                              float* out) const {
  detail::check_finite(rows, n, head_dim());
  if (out != rows) std::copy_n(rows, n * head_dim(), out);
  rotate_rows(frequencies_, out, n, place.position, true);
  inner_->reconstruct(out, n, out);
  rotate_rows(frequencies_, out, n, place.position, false);
}

}  // namespace vi::quant
