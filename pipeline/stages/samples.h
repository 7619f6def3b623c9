// Reading kv_samples.h5 and kv_transformed.h5 row by row: one (layer, side, head) at a time, so memory is
// bounded by one head's samples.
#pragma once

#include <string>
#include <vector>

#include "core/artifact/h5.h"
#include "core/codec/spec.h"

namespace vi::pipeline {

struct SampleFile {
  explicit SampleFile(artifact::H5File opened);
  std::vector<float> rows(int layer, const std::string& side, int head) const;  // [n_tokens, head_dim]
  // The same, keys turned back to before RoPE (frequencies [head_dim / 2]; empty: as they are).
  std::vector<float> rows(int layer, const std::string& side, int head, const std::vector<double>& rope) const;
  artifact::H5File file;
  int n_layers, n_q_heads, n_kv_heads, head_dim;
  std::int64_t n_tokens;
};

std::string layer_group(int layer);  // "/layer_03"

transform::TransformSpec transform_spec_from_json(const Json& json);
codec::CodeSpec code_spec_from_json(const Json& json);
// Json written by config::to_json -> the node it came from.
config::Node node_from_json(const Json& json);

}  // namespace vi::pipeline
