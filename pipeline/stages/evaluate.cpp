// evaluate: one method on one task. predictions.jsonl, scores.jsonl and metrics.json.
#include "pipeline/stages/evaluate.h"

#include "core/common/json.h"
#include "eval/calibration/layer_sensitivity.h"
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

// The layers that mind most, by the stage sensitivity.
std::vector<int> shared_layers(StageContext& context, double share) {
  const auto path = context.input("sensitivity").checked("sensitivity.json");
  const auto sensitivity = parse_json(read_file(path), path.string()).at("divergence").get<std::vector<double>>();
  return eval::most_sensitive(sensitivity, static_cast<int>(share * static_cast<double>(sensitivity.size()) + 1e-9));
}

}  // namespace

std::vector<std::string> run_evaluate(StageContext& context, const Method& method,
                                      const TaskSpec& task) {
  const auto fitted = [&](codec::CodecSpec spec, const std::string& suffix) {
    if (task.recent) spec.window.recent = *task.recent;
    if (task.sinks) spec.window.sinks = *task.sinks;
    return input_codec(context, std::move(spec), suffix);
  };
  auto codec = fitted(method.codec, "");
  Json metrics;
  if (!method.parts.empty()) {
    std::vector<codec::LayerPart> parts;
    for (std::size_t i = 0; i < method.parts.size(); ++i) {
      const MethodPart& part = method.parts[i];
      parts.push_back({fitted(part.method.codec, fmt::format("_{}", i)), part.share > 0 ? shared_layers(context, part.share) : part.layers});
      metrics["layers"].push_back({{"method", part.method.name}, {"layers", parts.back().layers}});
    }
    codec = std::make_shared<codec::Codec>(codec, parts);
  }
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
