// books: the centroids of one side, layer by layer with a checkpoint each. codebook: both sides in one
// codebook.h5 (VecInfer section 4.1; scopes: core/codec/train.h).
#include <optional>

#include "core/codec/codec_io.h"
#include "core/codec/fit.h"
#include "core/codec/train.h"
#include "core/common/bytes.h"
#include "core/common/interrupt.h"
#include "core/model/load.h"
#include "eval/gpu_backend.h"
#include "pipeline/session.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

// A part as bytes for a checkpoint; the store adds the checksum, so damage never reaches part_from().
std::string part_bytes(const codec::BookPart& part) {
  ByteWriter out;
  out.put(std::vector<int>{part.n_groups, part.n_books, part.ksub, part.dsub, part.dead});
  out.put(part.centroids);
  out.put(part.usage);
  out.put(part.train_mse);
  out.put(part.n_train);
  return out.bytes();
}

codec::BookPart part_from(const std::string& bytes) {
  codec::BookPart part;
  ByteReader in(bytes);
  std::vector<int> head;
  in.take(head);
  VI_CHECK(head.size() == 5, "a checkpoint's head of {} numbers", head.size());
  part.n_groups = head[0];
  part.n_books = head[1];
  part.ksub = head[2];
  part.dsub = head[3];
  part.dead = head[4];
  in.take(part.centroids);
  in.take(part.usage);
  in.take(part.train_mse);
  in.take(part.n_train);
  return part;
}

}  // namespace

std::vector<std::string> run_books(StageContext& context) {
  const bool transformed = context.find_input("kv_transformed") != nullptr;
  const SampleFile samples(transformed ? context.input("kv_transformed").open_h5("kv_transformed.h5")
                                       : context.input("kv_samples").open_h5("kv_samples.h5"));
  const std::string side_name = context.fields.at("side");
  const codec::Side side = side_name == "key" ? codec::Side::key : codec::Side::value;
  const codec::CodeSpec code = code_spec_from_json(context.fields.at("code"));
  codec::TrainSettings settings;
  config::read(node_from_json(context.fields.at("settings")), settings);
  const bool gpu = context.session.device() == Device::cuda;
  if (settings.trainer == codec::Trainer::batched && !gpu)
    fail<CudaError>("codebook: trainer batched runs on a GPU only; use --device cuda or trainer: faiss");
  const quant::TrainMany train = [&](std::span<const quant::KmeansProblem> all, const quant::KmeansSettings& how, Progress& progress) {
    if (settings.trainer == codec::Trainer::batched) return eval::gpu_backend().train_batched(all, how, progress);
    quant::KmeansSettings with = how;
    if (gpu) with.search = eval::gpu_backend().search();
    return quant::train_many(all, with, progress);
  };
  std::optional<artifact::H5File> statistics;
  if (const auto* input = context.find_input("kv_statistics")) statistics.emplace(input->open_h5("kv_statistics.h5"));
  codec::WeightSource weights;
  if (statistics)
    weights = [&](int layer, int head, std::vector<float>& out) {
      out.resize(static_cast<std::size_t>(samples.n_tokens));
      statistics->read_slab<float>(layer_group(layer) + (code.weights == codec::Weights::attention ? "/attention" : "/sensitivity"),
                                   {{head, 0}, {1, samples.n_tokens}}, out);
      codec::temper(out);
    };
  std::optional<SampleFile> gradients;
  if (const auto* input = context.find_input("kv_gradients")) {
    gradients.emplace(input->open_h5("kv_gradients.h5"));
    std::vector<double> rope;
    if (context.fields.contains("gradient_tap")) {  // keys before RoPE: gradients are turned as they are
      const model::ModelConfig& config = context.session.model().config;
      rope = model::rope_frequencies(config.rope, config.head_dim);
    }
    weights = [&, rope](int layer, int head, std::vector<float>& out) {
      out = codec::fisher_weights(gradients->rows(layer, side_name, head, rope), code.dsub);
      codec::temper(out);
    };
  }
  const codec::TrainShape shape{samples.n_layers, samples.n_kv_heads, samples.head_dim, samples.n_tokens};
  const int parts = codec::train_parts(code, shape);
  const int problems = codec::part_problems(code, shape);
  context.progress.begin(context.session.current_label, static_cast<std::int64_t>(parts) * problems);
  std::vector<codec::BookPart> made;
  codec::CodebookFacts facts;
  facts.scope = code.scope;
  facts.per = code.per;
  facts.bits = code.bits;
  facts.iterations = settings.iterations;
  facts.seed = settings.seed;
  for (int part = 0; part < parts; ++part) {
    check_interrupt();
    const std::string name = fmt::format("part_{:03}", part);
    if (const auto saved = context.pending.load_checkpoint(name)) {
      made.push_back(part_from(*saved));
      context.progress.advance(problems);
    } else {
      made.push_back(codec::train_part(
          code, side, shape, settings,
          [&](int layer, int head, std::vector<float>& rows) { rows = samples.rows(layer, side_name, head); },
          part, context.progress, weights, train));
      context.pending.save_checkpoint(name, part_bytes(made.back()));
    }
    const codec::BookPart& last = made.back();
    facts.usage.insert(facts.usage.end(), last.usage.begin(), last.usage.end());
    facts.train_mse.insert(facts.train_mse.end(), last.train_mse.begin(), last.train_mse.end());
    facts.dead_centroids += last.dead;
  }
  context.progress.end();
  codec::CodebookSet set;
  (side == codec::Side::key ? set.key : set.value) = codec::join_parts(made);
  auto file = artifact::H5File::create(context.pending.path("codebook.h5"));
  codec::write_codebooks(set, facts, facts, {samples.n_layers, samples.n_kv_heads, samples.head_dim}, file);
  file.close();
  return {"codebook.h5"};
}

std::vector<std::string> run_codebook(StageContext& context) {
  codec::CodebookSet set;
  codec::CodebookFacts key, value;
  codec::ModelShape shape;
  for (const auto& [name, part] : context.inputs) {
    const artifact::H5File file = part->open_h5("codebook.h5");
    codec::CodebookSet one = codec::read_codebooks(file);
    shape = codec::read_shape(file);
    if (name == "key") {
      set.key = std::move(one.key);
      key = codec::read_codebook_facts(file, "key");
    } else {
      set.value = std::move(one.value);
      value = codec::read_codebook_facts(file, "value");
    }
  }
  auto file = artifact::H5File::create(context.pending.path("codebook.h5"));
  codec::write_codebooks(set, key, value, shape, file);
  file.close();
  return {"codebook.h5"};
}

}  // namespace vi::pipeline
