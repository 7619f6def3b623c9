// The codec that a node's inputs `transform` and `codebook` hold.
#pragma once

#include <memory>
#include <string>

#include "core/codec/codec.h"

namespace vi::pipeline {

struct StageContext;

// `suffix` follows both names, for a part of a method. An input that the node does not have: no transforms, no
// codebooks. ContractError if they do not fit the spec.
std::shared_ptr<const codec::Codec> input_codec(StageContext& context, codec::CodecSpec spec, const std::string& suffix = "");

}  // namespace vi::pipeline
