// The codec's name for core/quant/head_coder.h, where the coders themselves live.
#pragma once

#include "core/quant/head_coder.h"

namespace vi::codec {

using quant::HeadCoder;
using quant::VectorView;

}  // namespace vi::codec
