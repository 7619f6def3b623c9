#include "pipeline/stages/samples.h"

#include "core/common/error.h"
#include "core/quant/compose/rope_code.h"

namespace vi::pipeline {

std::string layer_group(int layer) { return fmt::format("/layer_{:02}", layer); }

SampleFile::SampleFile(artifact::H5File opened)
    : file(std::move(opened)),
      n_layers(static_cast<int>(file.attr_int("/", "n_layers"))),
      n_q_heads(static_cast<int>(file.attr_int("/", "n_q_heads"))),
      n_kv_heads(static_cast<int>(file.attr_int("/", "n_kv_heads"))),
      head_dim(static_cast<int>(file.attr_int("/", "head_dim"))),
      n_tokens(file.info("/layer_00/key").shape.at(1)) {}

std::vector<float> SampleFile::rows(int layer, const std::string& side, int head) const {
  std::vector<float> out(static_cast<std::size_t>(n_tokens) * static_cast<std::size_t>(head_dim));
  file.read_slab<float>(layer_group(layer) + "/" + side, {{head, 0, 0}, {1, n_tokens, head_dim}}, out);
  return out;
}

std::vector<float> SampleFile::rows(int layer, const std::string& side, int head, const std::vector<double>& rope) const {
  std::vector<float> out = rows(layer, side, head);
  if (rope.empty() || side != "key") return out;
  const auto position = file.read<std::int32_t>("/position");
  for (std::size_t t = 0; t < position.size(); ++t)
    quant::rotate_rows(rope, out.data() + t * static_cast<std::size_t>(head_dim), 1,
                       static_cast<std::size_t>(position[t]), true);
  return out;
}

config::Node node_from_json(const Json& json) {
  config::Node node;
  if (json.is_object()) {
    node.kind = config::Node::Kind::map;
    for (const auto& [key, value] : json.items()) node.fields.emplace_back(key, node_from_json(value));
  } else if (json.is_array()) {
    node.kind = config::Node::Kind::sequence;
    for (const Json& value : json) node.items.push_back(node_from_json(value));
  } else if (!json.is_null()) {
    node.kind = config::Node::Kind::scalar;
    node.scalar = json.is_string() ? json.get<std::string>() : json.dump();
  }
  return node;
}

transform::TransformSpec transform_spec_from_json(const Json& json) {
  transform::TransformSpec spec;
  config::read(node_from_json(json), spec);
  return spec;
}

codec::CodeSpec code_spec_from_json(const Json& json) {
  codec::CodeSpec spec;
  config::read(node_from_json(json), spec);
  return spec;
}

}  // namespace vi::pipeline
