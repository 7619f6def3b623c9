// The log-loss's gradient with respect to every key and value a model reads: Fisher weights of k-means (KVQuant,
// arXiv 2401.18079, section 3.2; CQ, arXiv 2405.03917, section 3.3) are its squares.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "core/decoder/decoder.h"

namespace vi::eval {

struct KvGradients {
  std::vector<at::Tensor> key, value;  // a layer each: f32 [n_kv_heads, n, head_dim], keys post-RoPE
};

// Of sum over t of -log p(ids[t + 1] | ids[0..t]), each layer's keys and values taken as inputs of the rest
// of the model. decoder: plain and f32, on any device. ids: at least two. Interrupts are checked in each layer.
KvGradients kv_gradients(const model::Decoder& decoder, std::span<const std::int32_t> ids);

}  // namespace vi::eval
