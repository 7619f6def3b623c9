#include "pipeline/stages/codec_input.h"

#include "core/codec/codec_io.h"
#include "core/model/load.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {

std::shared_ptr<const codec::Codec> input_codec(StageContext& context, codec::CodecSpec spec, const std::string& suffix) {
  const model::ModelConfig& config = context.session.model().config;
  codec::TransformSet transforms;
  codec::CodebookSet books;
  transforms.n_layers = config.n_layers;
  transforms.n_kv_heads = config.n_kv_heads;
  transforms.head_dim = config.head_dim;
  if (const auto* artifact = context.find_input("transform" + suffix))
    transforms = codec::read_transforms(artifact->open_h5("transform.h5"));
  if (const auto* artifact = context.find_input("codebook" + suffix))
    books = codec::read_codebooks(artifact->open_h5("codebook.h5"));
  return std::make_shared<codec::Codec>(std::move(spec), config.n_layers, config.n_kv_heads,
                                        config.head_dim, std::move(transforms), std::move(books));
}

}  // namespace vi::pipeline
