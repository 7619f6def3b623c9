// evaluate: passkeys and RULER's needles.
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/model/load.h"
#include "eval/retrieval/needle.h"
#include "pipeline/session.h"
#include "pipeline/stages/evaluate.h"
#include "pipeline/stages/evaluate_prompts.h"
#include "pipeline/tasks.h"

namespace vi::pipeline {

void evaluate_needle(StageContext& context, const TaskSpec& task,
                     const std::shared_ptr<const codec::Codec>& codec, Json& metrics) {
  Session& session = context.session;
  const model::Tokenizer& tokenizer = *session.model().tokenizer;
  eval::NeedleSpec spec = needle_spec(task);
  std::string haystack;
  if (!task.files.empty()) {
    haystack = read_file(task.files.front());
    spec.haystack = eval::Haystack::text;
  }
  struct Cell {
    int length;
    double depth;
    std::int64_t tokens;  // of the prompt, so that prompt, template and answer fit the model
  };
  std::vector<Cell> cells;
  std::size_t skipped = 0;
  const int answer = task.max_new_tokens > 0 ? task.max_new_tokens : eval::needle_max_new_tokens(spec.kind);
  const std::int64_t most = session.max_length() - answer - template_tokens(session);
  const std::vector<double> depths = task.depths.empty() ? std::vector<double>{-1.0} : task.depths;
  const auto samples = static_cast<std::size_t>(task.samples);
  for (const int length : task.lengths) {
    if (length > session.max_length()) {
      context.progress.note(fmt::format("skipped: {}: lengths: {} tokens are more than the model's {}", task.name, length,
                                        session.max_length()));
      skipped += depths.size() * samples;
      continue;
    }
    for (const double depth : depths) cells.push_back({length, depth, std::min<std::int64_t>(length, most)});
  }
  if (cells.empty())
    fail<ConfigError>("task {}: no length fits the model's {} tokens", task.name, session.max_length());
  const auto count = [&](std::string_view text) {
    return static_cast<std::int64_t>(tokenizer.encode(text).size());
  };
  const auto predictions = answer_prompts(
      context, codec,
      {cells.size() * samples, [](std::size_t i) { return std::pair(static_cast<std::int64_t>(i), 0); }, [&](std::size_t i) {
        const Cell& cell = cells[i / samples];
        const std::uint64_t seed = task.seed * 1000003 + i;
        const eval::NeedleCase made =
            eval::make_needle(spec, cell.tokens, cell.depth, seed, count, haystack);
        Prompt prompt;
        prompt.ids = encode_prompt(session, made.prompt, true, prompt.record.chat_template,
                                   made.answer_prefix);
        prompt.record.task = "needle/" + task.kind;
        prompt.record.task_version = 1;
        prompt.record.doc = static_cast<std::int64_t>(i);
        prompt.record.id = fmt::format("{}-{:.2f}-{}", cell.length, made.depth, i % samples);
        prompt.record.prompt_sha256 = sha256_hex(made.prompt);
        prompt.record.prompt_tokens_full = made.tokens;
        prompt.record.seed = seed;
        prompt.record.answers = made.answers;
        prompt.max_new_tokens = answer;
        prompt.score = [spec, answers = made.answers](const std::string& text) {
          return eval::score_needle(spec.kind, text, answers);
        };
        return prompt;
      }},
      metrics);
  metrics["metric"] = "needle";
  metrics["skipped"] = skipped;
  metrics["cells"] = Json::array();
  for (std::size_t c = 0; c < cells.size(); ++c) {
    const auto begin = predictions.begin() + static_cast<std::ptrdiff_t>(c * samples);
    const eval::ScoreSummary cell = eval::summarise({begin, begin + static_cast<std::ptrdiff_t>(samples)});
    metrics["cells"].push_back({{"length", cells[c].length}, {"depth", cells[c].depth}, {"n", cell.n}, {"mean", cell.mean}});
  }
  metrics["protocol"] =
      Json{{"lengths", task.lengths}, {"depths", task.depths}, {"samples", task.samples}};
}

}  // namespace vi::pipeline
