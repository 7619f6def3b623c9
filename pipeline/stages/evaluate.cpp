// evaluate: one method on one task. predictions.jsonl, scores.jsonl and metrics.json.
#include "pipeline/stages/evaluate.h"

#include "pipeline/stages/codec_input.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

constexpr std::int64_t kBitsAt = 32768;  // tokens at which bits_total is counted (architecture: bits_at)

Json bits_json(const codec::Codec& codec) {
  const codec::BitCount bits = codec.fullest_bits(kBitsAt);
  return Json{{"key_bits", bits.key_payload},
              {"value_bits", bits.value_payload},
              {"key_metadata_bits", bits.key_metadata},
              {"value_metadata_bits", bits.value_metadata},
              {"window_bits", bits.window},
              {"bits_total", bits.total},
              {"bits_at", kBitsAt},
              {"codebook_bytes", bits.codebook_bytes}};
}

// Cache MiB of all layers at growing lengths, as the accountant counts them.
Json memory_json(const codec::Codec& codec) {
  Json points = Json::array();
  for (std::int64_t tokens = 512; tokens <= 131072; tokens *= 2) {
    const double elements = 2.0 * codec.n_layers() * codec.n_kv_heads() * codec.head_dim() *
                            static_cast<double>(tokens);
    points.push_back({tokens, codec.fullest_bits(tokens).total * elements / 8 / 1048576.0});
  }
  return points;
}

}  // namespace

std::vector<std::string> run_evaluate(StageContext& context, const Method& method,
                                      const TaskSpec& task) {
  const MethodCodec all = method_codec(context, method, task.recent, task.sinks);
  const auto& codec = all.codec;
  Json metrics;
  for (std::size_t i = 0; i < all.layers.size(); ++i)
    metrics["layers"].push_back({{"method", method.parts[i].method.name}, {"layers", all.layers[i]}});
  metrics["task"] = task.task;
  metrics["task_version"] = context.fields.at("task_version");
  if (task.task == "perplexity")
    evaluate_perplexity(context, task, codec, metrics);
  else if (task.task == "needle")
    evaluate_needle(context, task, codec, metrics);
  else
    evaluate_benchmark(context, task, codec, metrics);
  metrics["bits"] = bits_json(*codec);
  metrics["memory"] = memory_json(*codec);
  write_file_atomic(context.pending.path("metrics.json"), metrics.dump(1) + "\n");
  return {"predictions.jsonl", "scores.jsonl", "metrics.json"};
}

}  // namespace vi::pipeline
