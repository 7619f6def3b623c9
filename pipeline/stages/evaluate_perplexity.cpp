// evaluate: perplexity of texts, window by window.
#include <cmath>

#include "core/common/interrupt.h"
#include "core/decoder/decoder.h"
#include "core/model/load.h"
#include "eval/modes/layer_errors.h"
#include "eval/modes/modes.h"
#include "eval/modes/perplexity.h"
#include "eval/benchmark/text_records.h"
#include "pipeline/session.h"
#include "pipeline/stages/evaluate.h"

namespace vi::pipeline {
namespace {

constexpr int kErrorTokens = 512;  // of the first text, for the error per layer

// Token ids of each text that holds a window; the others are noted and counted.
std::vector<std::vector<std::int32_t>> encode_texts(StageContext& context, const TaskSpec& task, std::size_t& skipped) {
  std::vector<std::vector<std::int32_t>> texts;
  const model::Tokenizer& tokenizer = *context.session.model().tokenizer;
  for (const std::string& file : task.files) {
    eval::TextRecords read = eval::read_texts(file, task.field);
    for (const eval::TextRecord& record : read.records) {
      texts.push_back(tokenizer.encode(record.text));
      if (std::ssize(texts.back()) >= task.window) continue;
      read.skipped.push_back({record.line, fmt::format("{}{}: has {} tokens, expected at least one window of {}", file,
                                                       record.line > 0 ? fmt::format(":{}:{}", record.line, task.field) : "",
                                                       texts.back().size(), task.window)});
      texts.pop_back();
    }
    for (const auto& one : read.skipped) context.progress.note("skipped: " + one.message);
    skipped += read.skipped.size();
    if (texts.empty() && &file == &task.files.back()) {
      if (!read.skipped.empty()) fail<ContractError>("{}", read.skipped.back().message);
      fail<ContractError>("{}: holds no text", file);
    }
  }
  return texts;
}

}  // namespace

void evaluate_perplexity(StageContext& context, const TaskSpec& task,
                         const std::shared_ptr<const codec::Codec>& codec, Json& metrics) {
  Session& session = context.session;
  eval::PerplexitySettings settings;
  settings.mode = static_cast<eval::PerplexityMode>(task.mode);
  settings.window = task.window;
  settings.count = task.count;
  settings.prefill = task.prefill;
  settings.stride = task.stride;
  std::size_t skipped = 0;
  const auto texts = encode_texts(context, task, skipped);
  struct Window {
    std::size_t text;
    std::span<const std::int32_t> ids;
    bool first;  // of its text: all of it is scored
  };
  std::vector<Window> windows;
  for (std::size_t text = 0; text < texts.size(); ++text)
    for (const auto& window : eval::text_windows(texts[text], settings))
      windows.push_back({text, window, windows.empty() || windows.back().text != text});
  Records records(context.pending.path("predictions.jsonl"));
  context.progress.begin(session.current_label, static_cast<std::int64_t>(windows.size()));
  context.progress.advance(
      static_cast<std::int64_t>(std::min(records.lines().size(), windows.size())));
  for (std::size_t w = records.lines().size(); w < windows.size(); ++w) {
    check_interrupt();
    const eval::WindowScore score =
        eval::score_window(session.decoder(), windows[w].ids, settings, codec, windows[w].first);
    records.add(Json{
        {"window", w}, {"text", windows[w].text}, {"nll", score.nll}, {"tokens", score.tokens}});
    context.progress.advance(1);
  }
  context.progress.end();
  std::vector<eval::WindowScore> scores;
  std::string score_lines;
  for (const Json& line : records.lines()) {
    scores.push_back({line.at("nll").get<double>(), line.at("tokens").get<std::int64_t>()});
    score_lines +=
        Json{{"window", line.at("window")}, {"perplexity", eval::perplexity({&scores.back(), 1})}}
            .dump() +
        "\n";
  }
  write_file_atomic(context.pending.path("scores.jsonl"), score_lines);
  const double perplexity = eval::perplexity(scores);
  if (!std::isfinite(perplexity)) fail("{}: the perplexity is not a number", session.current_label);
  std::int64_t tokens = 0;
  double mean = 0, square = 0;
  for (const auto& score : scores) {
    tokens += score.tokens;
    const double each = score.nll / static_cast<double>(score.tokens);
    mean += each;
    square += each * each;
  }
  const auto n = static_cast<double>(scores.size());
  mean /= n;
  metrics["metric"] = "perplexity";
  metrics["score"] = perplexity;
  metrics["n"] = tokens;
  // Of the mean log-loss over windows, carried through exp().
  metrics["stderr"] =
      scores.size() < 2
          ? Json(nullptr)
          : Json(perplexity * std::sqrt(std::max(0.0, square / n - mean * mean) / (n - 1)));
  metrics["mode"] = config::to_string(task.mode);
  metrics["skipped"] = skipped;
  metrics["protocol"] = Json{{"window", task.window},
                             {"stride", task.stride > 0 ? task.stride : task.window},
                             {"windows", scores.size()}};
  if (task.mode == Mode::window) {
    metrics["protocol"]["recent"] = codec->spec().window.recent;
    metrics["protocol"]["sinks"] = codec->spec().window.sinks;
  }
  if (task.mode == Mode::stream) metrics["protocol"]["prefill"] = task.prefill;
  if (!codec->exact() && task.mode != Mode::stream) {
    const auto length = static_cast<std::size_t>(std::min(kErrorTokens, task.window));
    const eval::LayerErrors errors = eval::layer_errors(session.decoder(), codec, std::span(texts.front()).first(length));
    metrics["key_error"] = errors.key;
    metrics["value_error"] = errors.value;
    metrics["output_error"] = errors.output;
  }
}

}  // namespace vi::pipeline
