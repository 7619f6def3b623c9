#include "pipeline/stages/evaluate_prompts.h"

#include <map>
#include <optional>

#include "core/common/hash.h"
#include "core/common/interrupt.h"
#include "core/model/load.h"
#include "eval/generation/generate_batch.h"
#include "pipeline/session.h"
#include "pipeline/stages/evaluate.h"

namespace vi::pipeline {
namespace {

eval::GenerateSettings settings_of(const Prompt& prompt, Session& session) {
  eval::GenerateSettings settings;
  settings.sampler = prompt.sampler;
  settings.max_new_tokens = prompt.max_new_tokens;
  settings.min_new_tokens = prompt.min_new_tokens;
  settings.end_ids = session.model().config.eos_ids;
  settings.stop_ids = prompt.stop_ids;
  settings.context = session.max_length();
  return settings;
}

Json answer(Prompt& prompt, const eval::Generation& generation, const model::Tokenizer& tokenizer) {
  eval::Prediction& record = prompt.record;
  record.stop_reason = eval::name(generation.reason);
  record.new_tokens = static_cast<std::int64_t>(generation.ids.size());
  record.tokens = generation.ids;
  record.prediction = tokenizer.decode(generation.ids, true);
  // A token may end inside a UTF-8 sequence; JSON holds whole ones only.
  record.prediction =
      Json::parse(Json(record.prediction).dump(-1, ' ', false, Json::error_handler_t::replace))
          .get<std::string>();
  record.score = prompt.score(record.prediction);
  return eval::to_json(record);
}

}  // namespace

std::vector<eval::Prediction> answer_prompts(StageContext& context,
                                             const std::shared_ptr<const codec::Codec>& codec,
                                             const Prompts& prompts, Json& metrics) {
  Session& session = context.session;
  const model::Tokenizer& tokenizer = *session.model().tokenizer;
  const auto path = context.pending.path("predictions.jsonl");
  std::map<std::pair<std::int64_t, int>, std::size_t> index_of;
  for (std::size_t i = 0; i < prompts.n; ++i) index_of[prompts.name(i)] = i;
  std::vector<std::optional<Json>> lines(prompts.n);
  const auto batch = session.plan().experiment.generation.batch;
  int least = batch;
  {
    Records records(path);
    std::int64_t known = 0;
    for (const Json& line : records.lines()) {
      const auto one = eval::prediction_from_json(line, "predictions.jsonl");
      const auto found = index_of.find({one.doc, one.sample});
      if (found == index_of.end())
        fail<ContractError>("{}: document {}, sample {}: not a record of this task", path.string(), one.doc, one.sample);
      known += !lines[found->second];
      lines[found->second].emplace(line);
    }
    context.progress.begin(session.current_label, static_cast<std::int64_t>(prompts.n));
    context.progress.advance(known);
    std::vector<std::optional<Prompt>> open(prompts.n);
    std::vector<eval::BatchRequest> requests;
    for (std::size_t i = 0; i < prompts.n; ++i) {
      if (lines[i]) continue;
      check_interrupt();
      Prompt& prompt = open[i].emplace(prompts.make(i));
      prompt.record.prompt_tokens = std::ssize(prompt.ids);
      requests.push_back({i, std::move(prompt.ids), settings_of(prompt, session)});
    }
    std::string how;
    eval::BatchEvents events;
    events.done = [&](std::size_t i, eval::Generation&& generation) {
      lines[i].emplace(answer(*open[i], generation, tokenizer));
      open[i].reset();
      records.add(*lines[i]);
      context.progress.advance(1);
    };
    events.note = [&](const std::string& line) { context.progress.note(session.current_label + ": " + line); };
    least = eval::generate_batch(
        std::move(requests), batch, session.max_length(),
        [&](int slots, std::int64_t capacity) {
          std::string now;
          auto model = eval::make_batch_model(session.decoder(), codec, slots, capacity, &now);
          if (session.device() == Device::cuda && now != how) context.progress.note("cache: " + now);
          how = now;
          return model;
        },
        events);
    context.progress.end();
  }
  std::vector<eval::Prediction> predictions;
  std::string prediction_lines, score_lines;
  for (const auto& line : lines) {
    predictions.push_back(eval::prediction_from_json(*line, "predictions.jsonl"));
    const eval::Prediction& one = predictions.back();
    prediction_lines += line->dump() + "\n";
    score_lines +=
        Json{{"doc", one.doc}, {"id", one.id}, {"sample", one.sample}, {"score", one.score}}
            .dump() +
        "\n";
  }
  write_file_atomic(path, prediction_lines);
  write_file_atomic(context.pending.path("scores.jsonl"), score_lines);
  const eval::ScoreSummary summary = eval::summarise(predictions);
  metrics["score"] = summary.mean;
  metrics["n"] = summary.n;
  metrics["stderr"] = summary.n < 2 ? Json(nullptr) : Json(summary.stderr_of_mean);
  metrics["mode"] = "generate";
  // On the CPU the bytes do not depend on the batch, so they do not tell it either.
  if (session.device() == Device::cuda) metrics["batch"] = Json{{"asked", batch}, {"least", least}};
  return predictions;
}

std::int64_t template_tokens(Session& session) {
  const model::Model& model = session.model();
  if (!model.has_chat_template()) return 0;
  return std::ssize(model.tokenizer->encode(model.chat_prompt({{"user", ""}})));
}

// Chat form where the model has a template and the task wants it.
std::vector<std::int32_t> encode_prompt(Session& session, const std::string& text, bool chat,
                                        std::string& template_name,
                                        const std::string& prefix) {
  const model::Model& model = session.model();
  model::EncodeOptions options;
  std::string prompt = text;
  if (chat && model.has_chat_template()) {
    prompt = model.chat_prompt({{"user", text}});
    template_name = "model:" + sha256_hex(model.chat_template).substr(0, 12);
  } else {
    options.add_special = true;
  }
  return model.tokenizer->encode(prompt + prefix, options);
}

}  // namespace vi::pipeline
