// The codec that a node's inputs hold: `transform` and `codebook`, with a suffix `_0`, `_1` ... for each part of a method put
// together by layers; `sensitivity` where layers are dealt by it; `tuned` in place of all codebooks of such a method.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/codec/codec.h"

namespace vi::pipeline {

struct Method;
struct StageContext;

struct MethodCodec {
  std::shared_ptr<const codec::Codec> codec;                 // composed if the method has parts
  std::vector<std::shared_ptr<const codec::Codec>> members;  // the method's own, then its parts'
  std::vector<std::vector<int>> layers;                      // of each part
};

// recent, sinks: in place of the method's window. An input that the node does not have: no transforms, no codebooks.
// ContractError if they do not fit the method.
MethodCodec method_codec(StageContext& context, const Method& method, std::optional<int> recent = {}, std::optional<int> sinks = {});

}  // namespace vi::pipeline
