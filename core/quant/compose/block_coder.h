// A coder made around others. Its stream is a row of blocks of `block_tokens()` tokens, each block the
// coder's own bytes followed by the parts' streams of that many tokens, so that coders nest freely.
#pragma once

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/quant/head_coder.h"

namespace vi::quant {

class BlockCoder : public HeadCoder {
 public:
  int seal_tokens() const override { return seal_; }
  int head_dim() const override { return head_dim_; }
  std::size_t stream_bytes(std::size_t n) const override {
    return (n + block_ - 1) / block_ * block_bytes_;
  }

 protected:
  // Blocks are whole groups of every part and of kBlockTokens.
  BlockCoder(int head_dim, std::initializer_list<const HeadCoder*> parts, std::size_t least = 1) {
    head_dim_ = head_dim;
    block_ = std::lcm<std::size_t>(kBlockTokens, least);
    seal_ = static_cast<int>(least);
    for (const HeadCoder* part : parts) {
      VI_CHECK(part != nullptr && part->head_dim() == head_dim && part->fixed_bytes() == 0 &&
                   !part->sequential() && !part->wants_keys(),
               "a coder that cannot be part of another");
      block_ = std::lcm<std::size_t>(block_, part->seal_tokens());
      seal_ = std::lcm(seal_, part->seal_tokens());
    }
  }
  void set_block_bytes(std::size_t bytes) { block_bytes_ = bytes; }
  std::size_t block_tokens() const { return block_; }

  // fn(block index, first token inside the block, count, rows before it) over tokens [first, first + n).
  template <class Fn>
  void over_blocks(std::size_t first, std::size_t n, Fn fn) const {
    for (std::size_t at = 0; at < n;) {
      const std::size_t inside = (first + at) % block_;
      const std::size_t count = std::min(n - at, block_ - inside);
      fn((first + at) / block_, inside, count, at);
      at += count;
    }
  }
  void check_whole(std::size_t first, std::size_t n) const {
    VI_CHECK(first % seal_ == 0 && n % seal_ == 0, "tokens [{}, {}) are not whole groups of {}",
             first, first + n, seal_);
  }
  static void put_half(std::uint8_t* at, std::uint16_t bits) {
    at[0] = static_cast<std::uint8_t>(bits);
    at[1] = static_cast<std::uint8_t>(bits >> 8);
  }
  static std::uint16_t get_half(const std::uint8_t* at) {
    return static_cast<std::uint16_t>(at[0] | at[1] << 8);
  }

  int head_dim_ = 0, seal_ = 1;
  std::size_t block_ = 0, block_bytes_ = 0;
};

}  // namespace vi::quant
