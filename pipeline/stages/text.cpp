// text: calibration text that the model writes itself (calibration: {source: model}) -> text.jsonl, a checkpoint a sequence. Each
// sequence begins with the model's BOS, if it has one, and a random ordinary token, and is sampled on through ends of text until it
// is seq_len tokens long: then no text of anybody's is needed, and none can leak. As LLM-QAT (arXiv 2305.17888) makes training data.
#include "core/common/bytes.h"
#include "core/common/file.h"
#include "core/common/json.h"
#include "core/common/rng.h"
#include "core/model/load.h"
#include "eval/generation/generate_batch.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

std::vector<std::int32_t> first_tokens(const model::Model& model, Rng& rng) {
  std::vector<std::int32_t> ids;
  if (model.config.bos_id >= 0) ids.push_back(model.config.bos_id);
  const model::Tokenizer& tokenizer = *model.tokenizer;
  const auto vocabulary = static_cast<std::uint64_t>(std::min<std::int64_t>(tokenizer.vocab_size(), model.config.vocab));
  constexpr int kTries = 1000;  // ordinary tokens are nearly all
  for (int i = 0; i < kTries; ++i) {
    const auto id = static_cast<std::int32_t>(rng.below(vocabulary));
    if (tokenizer.is_special(id)) continue;
    ids.push_back(id);
    return ids;
  }
  fail<ContractError>("{}: no ordinary token found in its vocabulary", model.path.string());
}

}  // namespace

std::vector<std::string> run_text(StageContext& context) {
  Session& session = context.session;
  const CalibrationSpec& spec = session.plan().experiment.calibration;
  const model::Model& model = session.model();
  if (spec.seq_len > session.max_length())
    fail<ConfigError>("calibration: seq_len {}: the model has {} tokens of context", spec.seq_len, session.max_length());
  const auto n = static_cast<std::size_t>(spec.sequences);
  const auto name = [](std::size_t i) { return fmt::format("sequence_{:04}", i); };
  std::vector<std::vector<std::int32_t>> texts(n);
  std::vector<eval::BatchRequest> requests;
  context.progress.begin(session.current_label, spec.sequences);
  Rng rng(spec.seed);
  for (std::size_t i = 0; i < n; ++i) {
    texts[i] = first_tokens(model, rng);
    if (const auto saved = context.pending.load_checkpoint(name(i))) {
      ByteReader(*saved).take(texts[i]);
      context.progress.advance(1);
      continue;
    }
    eval::BatchRequest request{i, texts[i], {}};
    request.settings.sampler = {.temperature = spec.temperature, .top_p = 1.0, .seed = spec.seed * 1'000'003 + i};
    request.settings.max_new_tokens = request.settings.min_new_tokens = spec.seq_len - static_cast<int>(texts[i].size());
    requests.push_back(std::move(request));
  }
  eval::BatchEvents events;
  events.done = [&](std::size_t i, eval::Generation&& generation) {
    texts[i].insert(texts[i].end(), generation.ids.begin(), generation.ids.end());
    ByteWriter bytes;
    bytes.put(texts[i]);
    context.pending.save_checkpoint(name(i), bytes.bytes());
    context.progress.advance(1);
  };
  events.note = [&](const std::string& line) { context.progress.note(session.current_label + ": " + line); };
  if (!requests.empty())
    eval::generate_batch(std::move(requests), session.plan().experiment.generation.batch, session.max_length(),
                         [&](int slots, std::int64_t capacity) { return eval::make_batch_model(session.decoder(), nullptr, slots, capacity); }, events);
  context.progress.end();
  std::string lines;
  for (const auto& ids : texts) {
    VI_CHECK(std::ssize(ids) == spec.seq_len, "a text of {} tokens, expected {}", ids.size(), spec.seq_len);
    lines += Json{{"ids", ids}, {"text", model.tokenizer->decode(ids)}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  write_file_atomic(context.pending.path("text.jsonl"), lines);
  return {"text.jsonl"};
}

}  // namespace vi::pipeline
