#include "core/quant/compose/sign_sketch.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/common/rng.h"
#include "core/quant/finite.h"
#include "core/transform/rotation.h"

namespace vi::quant {
namespace {

std::size_t bytes_of(int bits) { return (static_cast<std::size_t>(bits) + 7) / 8; }
std::uint16_t half_of(double value) {
  return float_to_half(static_cast<float>(std::min(value, 65504.0)));
}

}  // namespace

std::vector<float> sketch_projections(int signs, int d, bool orthogonal, std::uint64_t seed) {
  std::vector<float> rows;
  if (orthogonal) {
    for (std::uint64_t chunk = 0; rows.size() < static_cast<std::size_t>(signs) * d; ++chunk) {
      std::vector<float> part = transform::random_rotation(d, seed + chunk);
      for (float& x : part) x *= std::sqrt(static_cast<float>(d));
      rows.insert(rows.end(), part.begin(), part.end());
    }
    rows.resize(static_cast<std::size_t>(signs) * d);
    return rows;
  }
  Rng rng(seed);
  rows.resize(static_cast<std::size_t>(signs) * d);
  for (float& x : rows) x = static_cast<float>(rng.normal());
  return rows;
}

SignSketch::SignSketch(int head_dim, const transform::HeadTransform* transform,
                       const SketchForm& form)
    : BlockCoder(head_dim, {}, form.outliers > 0 ? form.group : 1),
      transform_(transform),
      form_(form),
      projections_(sketch_projections(form.signs, head_dim, form.orthogonal, form.seed)) {
  VI_CHECK(form.signs >= 2, "a sketch of {} signs", form.signs);
  VI_CHECK(form.outliers >= 0 && form.outliers < head_dim && head_dim <= 256 &&
               (form.outliers == 0 || form.group >= 1),
           "{} outlier channels of {} in groups of {}", form.outliers, head_dim, form.group);
  if (form.outliers > 0) block_ = form.group;
  set_block_bytes(form_.outliers + block_ * token_bytes());
}

std::size_t SignSketch::token_bytes() const {
  return 2 + bytes_of(form_.signs) + (form_.outliers > 0 ? 2 + bytes_of(form_.signs / 2) : 0);
}
double SignSketch::payload_bits() const {
  return 8.0 * (bytes_of(form_.signs) + (form_.outliers > 0 ? bytes_of(form_.signs / 2) : 0)) / head_dim_;
}
double SignSketch::metadata_bits() const {
  if (form_.outliers == 0) return 16.0 / head_dim_;
  return 32.0 / head_dim_ + 8.0 * form_.outliers / (head_dim_ * form_.group);
}

// rows: transformed, n of one block.
void SignSketch::code_group(const float* rows, std::size_t n, std::uint8_t* block,
                            std::size_t inside) const {
  const int d = head_dim_;
  std::vector<char> special(d, 0);
  if (form_.outliers > 0) {
    std::vector<double> energy(d, 0.0);
    for (std::size_t t = 0; t < n; ++t)
      for (int i = 0; i < d; ++i) energy[i] += static_cast<double>(rows[t * d + i]) * rows[t * d + i];
    std::vector<int> order(d);
    for (int i = 0; i < d; ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return energy[a] > energy[b]; });
    std::sort(order.begin(), order.begin() + form_.outliers);
    for (int i = 0; i < form_.outliers; ++i) {
      block[i] = static_cast<std::uint8_t>(order[i]);
      special[order[i]] = 1;
    }
  }
  std::vector<float> part(d);
  for (std::size_t t = 0; t < n; ++t) {
    std::uint8_t* at = block + form_.outliers + (inside + t) * token_bytes();
    std::fill_n(at, token_bytes(), std::uint8_t{0});
    std::uint8_t* bits = at + (form_.outliers > 0 ? 4 : 2);
    for (int set = 0; set < (form_.outliers > 0 ? 2 : 1); ++set) {
      double norm = 0;
      for (int i = 0; i < d; ++i) {
        part[i] = special[i] == set ? rows[t * d + i] : 0.0f;
        norm += static_cast<double>(part[i]) * part[i];
      }
      put_half(at + 2 * set, half_of(std::sqrt(norm)));
      const int signs = set == 0 ? form_.signs : form_.signs / 2;
      for (int j = 0; j < signs; ++j) {
        double dot = 0;
        for (int i = 0; i < d; ++i) dot += static_cast<double>(projections_[static_cast<std::size_t>(j) * d + i]) * part[i];
        if (dot > 0) bits[j / 8] = static_cast<std::uint8_t>(bits[j / 8] | 1u << (j % 8));
      }
      bits += bytes_of(signs);
    }
  }
}

void SignSketch::back(const std::uint8_t* block, std::size_t inside, std::size_t n,
                      float* rows) const {
  const int d = head_dim_;
  std::vector<char> special(d, 0);
  for (int i = 0; i < form_.outliers; ++i) special[block[i]] = 1;
  std::vector<float> sum(d);
  for (std::size_t t = 0; t < n; ++t) {
    const std::uint8_t* at = block + form_.outliers + (inside + t) * token_bytes();
    const std::uint8_t* bits = at + (form_.outliers > 0 ? 4 : 2);
    for (int set = 0; set < (form_.outliers > 0 ? 2 : 1); ++set) {
      const int signs = set == 0 ? form_.signs : form_.signs / 2;
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (int j = 0; j < signs; ++j) {
        const float* s = projections_.data() + static_cast<std::size_t>(j) * d;
        const float sign = bits[j / 8] >> (j % 8) & 1 ? 1.0f : -1.0f;
        for (int i = 0; i < d; ++i) sum[i] += sign * s[i];
      }
      const float factor = static_cast<float>(std::sqrt(std::numbers::pi / 2) / signs) *
                           half_to_float(get_half(at + 2 * set));
      for (int i = 0; i < d; ++i)
        if (special[i] == set) rows[t * d + i] = factor * sum[i];
      bits += bytes_of(signs);
    }
  }
}

void SignSketch::encode(const float* rows, std::size_t n, std::size_t first,
                        std::uint8_t* stream) const {
  check_whole(first, n);
  detail::check_finite(rows, n, head_dim_);
  std::vector<float> work;
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    work.assign(rows + at * head_dim_, rows + (at + count) * head_dim_);
    if (transform_) transform_->forward(work.data(), count);
    code_group(work.data(), count, stream + block * block_bytes_, inside);
  });
}

void SignSketch::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                        float* rows) const {
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    back(stream + block * block_bytes_, inside, count, rows + at * head_dim_);
  });
  if (transform_) transform_->inverse(rows, n);
}

void SignSketch::reconstruct(const float* rows, std::size_t n, float* out) const {
  detail::check_finite(rows, n, head_dim_);
  if (out != rows) std::copy_n(rows, n * head_dim_, out);
  if (transform_) transform_->forward(out, n);
  std::vector<std::uint8_t> block(block_bytes_);
  over_blocks(0, n, [&](std::size_t, std::size_t, std::size_t count, std::size_t at) {
    code_group(out + at * head_dim_, count, block.data(), 0);
    back(block.data(), 0, count, out + at * head_dim_);
  });
  if (transform_) transform_->inverse(out, n);
}

}  // namespace vi::quant
