// What a codec's errors do on one text, layer by layer and head by head: to keys, to values, and to
// the output of attention with all of both coded (the sensitivity that the report's heat maps
// show).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace vi::codec {
class Codec;
}
namespace vi::model {
class Decoder;
}

namespace vi::eval {

struct LayerErrors {
  std::vector<double> key, value;  // [n_layers] relative squared error of the reconstruction
  std::vector<std::vector<double>>
      output;  // [n_layers][n_kv_heads] of the outputs of a head's queries
};

// On the exact activations of `ids` (each layer's input is the uncoded model's). Causal, no exact
// window.
LayerErrors layer_errors(const model::Decoder& decoder, std::shared_ptr<const codec::Codec> codec,
                         std::span<const std::int32_t> ids);

}  // namespace vi::eval
