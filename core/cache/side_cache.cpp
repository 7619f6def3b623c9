#include "core/cache/side_cache.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/common/error.h"

namespace vi::cache {

void Window::poison(std::size_t first, std::size_t n) {
  std::fill_n(storage_.begin() + static_cast<std::ptrdiff_t>(first * d_), n * d_,
              std::numeric_limits<float>::quiet_NaN());
}

void Window::make_room(std::size_t n) {
  const std::size_t capacity = storage_.size() / d_;
  if (begin_ + size_ + n <= capacity) return;
  if (begin_ >= size_ && size_ + n <= capacity) {  // as many rows free in front as have to move
    std::memcpy(storage_.data(), rows(), size_ * d_ * sizeof(float));
    poison(std::max(begin_, size_), begin_ + size_ - std::max(begin_, size_));
    begin_ = 0;
    return;
  }
  const std::size_t grown = std::max(size_ + n, size_ + size_ / 2 + 32);
  std::vector<float> larger(grown * d_, std::numeric_limits<float>::quiet_NaN());
  std::copy_n(rows(), size_ * d_, larger.begin());
  storage_.swap(larger);
  begin_ = 0;
}

void Window::push(const float* rows, std::size_t n) {
  if (n == 0) return;
  make_room(n);
  std::memcpy(storage_.data() + (begin_ + size_) * d_, rows, n * d_ * sizeof(float));
  size_ += n;
}

void Window::drop(std::size_t n) {
  poison(begin_, n);
  begin_ += n;
  size_ -= n;
  if (size_ == 0) begin_ = 0;
}

SideCache::SideCache(const quant::HeadCoder* coder, int head_dim, const codec::WindowSpec& rule, bool key)
    : coder_(coder),
      d_(head_dim),
      n_sinks_(rule.sinks),
      rule_(rule),
      key_(key),
      window_(head_dim),
      keys_(head_dim) {
  VI_CHECK(coder == nullptr || coder->head_dim() == head_dim,
           "coder of head_dim {} in a cache of {}", coder->head_dim(), head_dim);
}

std::size_t SideCache::would_code(std::size_t n) const {
  if (coder_ == nullptr) return 0;
  const std::int64_t coded = codec::coded_tokens(rule_, key_, static_cast<std::int64_t>(len_ + n), coder_->seal_tokens());
  return static_cast<std::size_t>(coded) - n_coded_;
}

void SideCache::encode(const float* rows, const float* keys, std::size_t n) {
  if (n == 0) return;
  const std::size_t bytes = coder_->stream_bytes(n_coded_ + n);
  if (bytes > stream_.capacity())
    stream_.reserve(bytes + bytes / 4);  // amortised, a quarter to spare
  stream_.resize(bytes);
  if (coder_->wants_keys())
    coder_->encode_with_keys(rows, keys, n, n_coded_, stream_.data());
  else
    coder_->encode(rows, n, n_coded_, stream_.data());
  n_coded_ += n;
}

void SideCache::append(const float* rows, std::size_t n, const float* keys) {
  std::size_t moved = would_code(n);
  const bool keyed = coder_ != nullptr && coder_->wants_keys();
  VI_CHECK(!keyed || keys != nullptr || n == 0, "values were not given their keys");
  len_ += n;
  const auto step = [&](std::size_t by) {
    rows += by * d_;
    if (keyed) keys += by * d_;
    n -= by;
  };
  const std::size_t sinks = std::min(n, n_sinks_ - sinks_.size() / d_);
  sinks_.insert(sinks_.end(), rows, rows + sinks * d_);
  step(sinks);
  if (moved > 0) {
    // First what waits in the window, filled up to whole groups, then straight from the caller's
    // rows.
    const std::size_t seal = static_cast<std::size_t>(coder_->seal_tokens());
    VI_CHECK(moved % seal == 0, "{} tokens to code in groups of {}", moved, seal);
    std::size_t waiting = std::min(moved, window_.size());
    const std::size_t fill = (seal - waiting % seal) % seal;
    window_.push(rows, fill);
    if (keyed) keys_.push(keys, fill);
    step(fill);
    waiting += fill;
    encode(window_.rows(), keys_.rows(), waiting);
    window_.drop(waiting);
    if (keyed) keys_.drop(waiting);
    moved -= waiting;
    encode(rows, keys, moved);
    step(moved);
  }
  window_.push(rows, n);
  if (keyed) keys_.push(keys, n);
}

attention::SideView SideCache::view() const {
  return {coder_, stream_.data(), n_coded_, sinks_.data(), window_.rows()};
}

std::size_t SideCache::payload_bytes() const { return n_coded_ > 0 ? stream_.size() : 0; }
std::size_t SideCache::window_bytes() const {
  return (sinks_.size() + window_.size() * d_) * sizeof(float);
}
std::size_t SideCache::allocated_bytes() const {
  return sizeof *this + sinks_.capacity() * sizeof(float) + stream_.capacity() +
         window_.allocated_bytes() + keys_.allocated_bytes();
}

}  // namespace vi::cache
