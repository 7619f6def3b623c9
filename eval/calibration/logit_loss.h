// A loss on a model's logits and its gradient, a chunk of rows at a time: [n, vocab] never exists.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "core/decoder/decoder.h"

namespace vi::eval {

// Sum over row chunks of loss(logits of the chunk's rows, its first row), over the first n rows of `hidden`
// (Decoder::forward's). Where autograd records, the gradient goes back through `hidden`.
double loss_of_logits(const model::Decoder& decoder, const at::Tensor& hidden, std::int64_t n,
                      const std::function<at::Tensor(const at::Tensor&, std::int64_t)>& loss);

// Kullback-Leibler divergence of the next-token distributions of `exact` (constant) from those of `hidden`, both
// Decoder::forward's of the same tokens: nats a token, mean over the rows.
double divergence(const model::Decoder& decoder, const at::Tensor& exact, const at::Tensor& hidden);

}  // namespace vi::eval
