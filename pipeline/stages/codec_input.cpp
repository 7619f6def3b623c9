#include "pipeline/stages/codec_input.h"

#include "core/codec/codec_io.h"
#include "core/common/file.h"
#include "core/common/json.h"
#include "core/model/load.h"
#include "eval/calibration/layer_sensitivity.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

std::shared_ptr<const codec::Codec> input_codec(StageContext& context, codec::CodecSpec spec, const std::string& suffix) {
  const model::ModelConfig& config = context.session.model().config;
  codec::TransformSet transforms;
  codec::CodebookSet books;
  transforms.n_layers = config.n_layers;
  transforms.n_kv_heads = config.n_kv_heads;
  transforms.head_dim = config.head_dim;
  if (const auto* artifact = context.find_input("transform" + suffix))
    transforms = codec::read_transforms(artifact->open_h5("transform.h5"));
  if (const auto* artifact = context.find_input("codebook" + suffix)) {
    const auto* tuned = context.find_input("tuned");
    books = codec::read_codebooks(tuned ? tuned->open_h5("codebook" + suffix + ".h5") : artifact->open_h5("codebook.h5"));
  }
  return std::make_shared<codec::Codec>(std::move(spec), config.n_layers, config.n_kv_heads,
                                        config.head_dim, std::move(transforms), std::move(books));
}

// The layers that mind most.
std::vector<int> shared_layers(StageContext& context, double share) {
  const auto path = context.input("sensitivity").checked("sensitivity.json");
  const auto sensitivity = parse_json(read_file(path), path.string()).at("divergence").get<std::vector<double>>();
  return eval::most_sensitive(sensitivity, static_cast<int>(share * static_cast<double>(sensitivity.size()) + 1e-9));
}

}  // namespace

MethodCodec method_codec(StageContext& context, const Method& method, std::optional<int> recent, std::optional<int> sinks) {
  const auto fitted = [&](codec::CodecSpec spec, const std::string& suffix) {
    if (recent) spec.window.recent = *recent;
    if (sinks) spec.window.sinks = *sinks;
    return input_codec(context, std::move(spec), suffix);
  };
  MethodCodec all;
  all.codec = fitted(method.codec, "");
  all.members = {all.codec};
  if (method.parts.empty()) return all;
  std::vector<codec::LayerPart> parts;
  for (std::size_t i = 0; i < method.parts.size(); ++i) {
    const MethodPart& part = method.parts[i];
    all.members.push_back(fitted(part.method.codec, fmt::format("_{}", i)));
    all.layers.push_back(part.share > 0 ? shared_layers(context, part.share) : part.layers);
    parts.push_back({all.members.back(), all.layers.back()});
  }
  all.codec = std::make_shared<codec::Codec>(all.members.front(), parts);
  return all;
}

}  // namespace vi::pipeline
