// How much each layer of a model minds a codec: what the next-token distributions move when this layer alone is coded.
// Bits are dealt to layers by it (methods put together by layers, `share`).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "core/codec/codec.h"
#include "core/decoder/decoder.h"

namespace vi::eval {

class LayerSensitivity {
 public:
  // windows: token ids, at least two each, not empty. Exact tokens as the codec's window says (mode `window`). The hidden
  // states in full precision of all windows are kept. decoder must outlive this.
  LayerSensitivity(const model::Decoder& decoder, std::shared_ptr<const codec::Codec> codec, std::vector<std::vector<std::int32_t>> windows);
  // Kullback-Leibler divergence of full precision from `layer` coded and all others exact, nats a token, mean over the windows.
  double of(int layer) const;

 private:
  const model::Decoder& decoder_;
  std::shared_ptr<const codec::Codec> codec_;
  std::vector<std::vector<std::int32_t>> windows_;
  std::vector<at::Tensor> exact_;
};

// The `count` layers of the largest sensitivity, ascending; of equal ones the lower.
std::vector<int> most_sensitive(const std::vector<double>& sensitivity, int count);

}  // namespace vi::eval
