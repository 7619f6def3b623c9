// Attention of whole prompts on a device, by ATen: what eval/modes/modes.h does on the CPU with our kernels.
// Device-agnostic; the tests hold it to the CPU's on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "eval/modes/device_codec.h"

namespace vi::eval {

// Exact causal attention, q [n_q_heads, n, d], k, v [n_kv_heads, n, d] -> [n, n_q_heads d] of q's type:
// SDPA with grouped heads for f16 and bf16 (flash on a GPU), row chunks of plain products for f32.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Row i sees token j <= i reconstructed where sinks <= j < end[i], else exactly; one softmax over both.
// Empty ends: that side is exact. codec null: all is exact.
at::Tensor mixed_attention(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const DeviceCodec* codec, std::int64_t sinks,
                           const std::vector<std::int64_t>& key_end,
                           const std::vector<std::int64_t>& value_end);

}  // namespace vi::eval
