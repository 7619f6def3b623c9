// Block formats of GGUF weights to f32. Bit-exact with the formula of each format in f32 (no
// reordering).
#pragma once

#include <cstdint>

#include "core/weights/weights.h"

namespace vi::model {

// A block is the smallest unit that decodes by itself; rows are whole blocks.
struct BlockShape {
  int elements, bytes;
};
BlockShape block_shape(TensorType type);

// n elements (a multiple of the block) from src to out.
void dequantize(TensorType type, const std::uint8_t* src, std::int64_t n, float* out);

}  // namespace vi::model
