// The one seam between the decoder and everything that looks at keys and values: dump, the evaluation
// modes and the caches are implementations of it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace vi::model {

// `first` of a call whose rows are the next tokens of several sequences, one each (Decoder::forward_each).
inline constexpr std::int64_t kManySequences = -1;

class AttentionHook {
 public:
  virtual ~AttentionHook() = default;
  // One layer's attention for the n new tokens at positions [first, first + n).
  // q [n_q_heads, n, head_dim], k and v [n_kv_heads, n, head_dim]: post-RoPE, f32 or bf16, contiguous.
  // Returns o [n, n_q_heads * head_dim] of q's type. Called for layer 0, 1, ... in order: with a prompt,
  // all of its tokens come in one call a layer (layer-major prefill).
  virtual at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            std::int64_t first) = 0;
  // Whether attend() heeds window(); otherwise the decoder refuses to go beyond a model's window.
  virtual bool takes_window() const { return false; }
  void set_windows(std::vector<std::int64_t> windows) { windows_ = std::move(windows); }

 protected:
  // How many of the newest tokens, its own included, a query of this layer sees; 0: all.
  std::int64_t window(int layer) const {
    const auto at = static_cast<std::size_t>(layer);
    return at < windows_.size() ? windows_[at] : 0;
  }

 private:
  std::vector<std::int64_t> windows_;  // by layer; empty: none
};

}  // namespace vi::model
