// What attention sees of a cache: for each KV head, where its keys and values lie. No copy, no
// ownership. Token positions of a side: [0, n_sinks) exact, then n_coded coded, then exact to
// `len`. The two sides of a head may have different n_coded (KIVI: keys by blocks, values sliding).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/quant/head_coder.h"

namespace vi::attention {

struct SideView {
  const quant::HeadCoder* coder = nullptr;  // nullptr: nothing is coded
  const std::uint8_t* stream = nullptr;     // coder->stream_bytes(n_coded)
  std::size_t n_coded = 0;
  const float* sinks = nullptr;   // [n_sinks, head_dim]
  const float* recent = nullptr;  // [len - n_sinks - n_coded, head_dim]
};

struct HeadView {
  SideView key, value;
  std::size_t n_sinks = 0;
  std::size_t len = 0;  // all tokens; at least n_sinks + n_coded of either side
};

struct DecodeShape {
  int n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  int group() const { return n_q_heads / n_kv_heads; }
};

// Error where the numbers of a view do not fit together.
void check_views(const DecodeShape& shape, const HeadView* heads);

}  // namespace vi::attention
