// From settings to one coder: how the choices of a side are put together (core/quant/compose).
//   pool ( rope ( outliers ( token steps ( balance ( residual of ( code )))))), transforms inside
#pragma once

#include <memory>
#include <vector>

#include "core/codec/head_coder.h"
#include "core/codec/spec.h"
#include "core/quant/vector_code.h"

namespace vi::codec {

struct CoderPlace {
  bool key = true;
  int layer = 0;
  int head_dim = 0;
  int sinks = 0;  // tokens before the first coded one
};

// transform: the head's, or null; it must outlive the coder. books: one a stage, of a vector code.
// rope: the model's frequencies where the side is tapped before RoPE.
std::unique_ptr<HeadCoder> make_coder(const SideSpec& side, const CoderPlace& place,
                                      const transform::HeadTransform* transform,
                                      const std::vector<std::shared_ptr<const quant::VectorBooks>>& books,
                                      const std::vector<double>& rope);

}  // namespace vi::codec
