// One side (keys or values) of one KV head as the cache holds it: the first tokens exact, then
// codes, then the exact window. Invariant: a row that leaves the window is coded once, then
// overwritten with NaN, so that nothing can go on living from an exact copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/attention/views.h"
#include "core/codec/window.h"

namespace vi::cache {

// The newest rows of one side, contiguous; amortised O(1) a row at both ends.
class Window {
 public:
  explicit Window(int head_dim) : d_(head_dim) {}
  void push(const float* rows, std::size_t n);
  void drop(std::size_t n);  // the oldest n
  const float* rows() const { return storage_.data() + begin_ * d_; }
  std::size_t size() const { return size_; }
  std::size_t allocated_bytes() const { return storage_.size() * sizeof(float); }

 private:
  void make_room(std::size_t n);
  void poison(std::size_t first, std::size_t n);
  std::size_t d_, begin_ = 0, size_ = 0;  // in rows
  std::vector<float> storage_;            // its size is the capacity; rows not in use are NaN
};

class SideCache {
 public:
  // coder may be null: the side stays exact. Of the window's rule the keys' half (key) or the values'.
  SideCache(const quant::HeadCoder* coder, int head_dim, const codec::WindowSpec& rule, bool key);
  // How many tokens an append of n codes.
  std::size_t would_code(std::size_t n) const;
  // keys: the same tokens' keys, for a coder that wants them (then kept beside the window until coded).
  void append(const float* rows, std::size_t n, const float* keys = nullptr);
  attention::SideView view() const;
  std::size_t len() const { return len_; }
  std::size_t payload_bytes() const;
  std::size_t window_bytes() const;
  std::size_t allocated_bytes() const;

 private:
  void encode(const float* rows, const float* keys, std::size_t n);
  const quant::HeadCoder* coder_;
  int d_, n_sinks_;
  codec::WindowSpec rule_;
  bool key_;
  std::size_t len_ = 0, n_coded_ = 0;
  std::vector<float> sinks_;
  std::vector<std::uint8_t> stream_;
  Window window_;
  Window keys_;  // of the window's tokens; empty unless the coder wants them
};

}  // namespace vi::cache
