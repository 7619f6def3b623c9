// evaluate: LongBench, mathematics and other tasks of eval/tasks.
#include "core/common/hash.h"
#include "core/model/load.h"
#include "eval/math/checker.h"
#include "eval/benchmark/task.h"
#include "eval/benchmark/truncate.h"
#include "eval/benchmark/rescore.h"
#include "pipeline/session.h"
#include "pipeline/stages/evaluate.h"
#include "pipeline/stages/evaluate_prompts.h"

namespace vi::pipeline {
namespace {

constexpr std::int64_t kMillionTokens = 4096;  // MILLION's prompts, whatever the model holds

}  // namespace

void evaluate_benchmark(StageContext& context, const TaskSpec& spec,
                        const std::shared_ptr<const codec::Codec>& codec, Json& metrics) {
  Session& session = context.session;
  const model::Tokenizer& tokenizer = *session.model().tokenizer;
  eval::Task task = session.tasks().task(spec.task);
  eval::Documents documents = eval::read_documents(task, eval::find_task_file(task, spec.dir),
                                                   spec.limit > 0 ? spec.limit : -1);
  const int new_tokens = spec.max_new_tokens > 0 ? spec.max_new_tokens : task.max_new_tokens;
  std::int64_t limit = session.max_length();
  if (spec.max_length > 0) limit = std::min(limit, spec.max_length);
  // The official scripts leave room for the answer and the template inside the model's length.
  std::int64_t prompt_limit = limit - new_tokens;
  if (spec.protocol == Protocol::million) {
    task.chat_template = false;
    task.truncation = eval::Truncation::middle;
    prompt_limit = std::min(prompt_limit, kMillionTokens);
  }
  if (task.chat_template) prompt_limit -= std::max<std::int64_t>(64, template_tokens(session));
  if (prompt_limit < 2)
    fail<ConfigError>("task {}: max_length {} leaves no room for a prompt", spec.task, limit);
  const eval::TextCodec text_codec{
      [&](std::string_view text) {
        return tokenizer.encode(text, {.add_special = true, .parse_special = true});
      },
      [&](std::span<const std::int32_t> ids) { return tokenizer.decode(ids, true); }};
  if (task.truncation == eval::Truncation::none)
    std::erase_if(documents.documents, [&](const eval::Document& document) {
      const std::int64_t n = std::ssize(text_codec.encode(eval::render_prompt(task, document)));
      if (n <= prompt_limit) return false;
      documents.skipped.push_back({document.line, fmt::format("{}:{}:prompt: has {} tokens, the limit is {} and this task does not cut",
                                                              eval::find_task_file(task, spec.dir).string(), document.line, n, prompt_limit)});
      return true;
    });
  for (const auto& skipped : documents.skipped)
    context.progress.note("skipped: " + skipped.message);
  if (documents.documents.empty())
    fail<ContractError>("{}: no usable record in {}", spec.task, spec.dir);
  const bool mathematical = task.metric == "math";
  if (mathematical && !eval::math::use_installed_checker())
    context.progress.note(
        "vecinfer-math is missing beside this program (it needs libginac-dev when it is built): answers are "
        "compared by numbers, without algebra; metrics.json says so");
  const auto samples = static_cast<std::size_t>(task.sampling.samples);
  const auto predictions = answer_prompts(
      context, codec,
      {documents.documents.size() * samples,
       [&](std::size_t i) { return std::pair(documents.documents[i / samples].index, static_cast<int>(i % samples)); },
       [&](std::size_t i) {
        const eval::Document& document = documents.documents[i / samples];
        const eval::TruncatedPrompt cut =
            eval::truncate_middle(eval::render_prompt(task, document), prompt_limit, text_codec);
        Prompt prompt;
        prompt.ids =
            encode_prompt(session, cut.text, task.chat_template, prompt.record.chat_template);
        prompt.record.task = task.name;
        prompt.record.task_version = task.version;
        prompt.record.doc = document.index;
        prompt.record.sample = static_cast<int>(i % samples);
        prompt.record.id = document.id;
        prompt.record.prompt_sha256 = sha256_hex(cut.text);
        prompt.record.prompt_tokens_full = cut.tokens_before;
        prompt.record.seed = spec.seed * 1000003 + i;
        prompt.record.answers = document.answers;
        prompt.record.all_classes = document.all_classes;
        prompt.record.length = document.length;
        prompt.max_new_tokens = new_tokens;
        prompt.min_new_tokens = task.stop.min_new_tokens;
        if (!task.stop.last_token_of.empty()) {
          const auto ids = tokenizer.encode(task.stop.last_token_of);
          if (!ids.empty()) prompt.stop_ids = {ids.back()};
        }
        prompt.sampler = {task.sampling.temperature, task.sampling.top_p, prompt.record.seed};
        prompt.score = [&task, &document](const std::string& text) {
          return eval::score_prediction(task, text, document.answers, document.record);
        };
        return prompt;
      }},
      metrics);
  metrics["metric"] = task.metric;
  metrics["skipped"] = documents.skipped.size();
  if (Json buckets = eval::buckets_json(predictions); !buckets.empty()) metrics["by_length"] = std::move(buckets);
  metrics["protocol"] = Json{{"name", config::to_string(spec.protocol)},
                             {"max_length", limit},
                             {"prompt_limit", prompt_limit},
                             {"max_new_tokens", new_tokens},
                             {"truncation", config::to_string(task.truncation)},
                             {"chat_template", task.chat_template},
                             {"limit", spec.limit},
                             {"sampling", config::to_json(task.sampling)}};
  if (mathematical)
    metrics["protocol"].update(Json{{"comparison", eval::math::comparison()},
                                    {"stopped_pairs", eval::math::stopped_pairs()}});
}

}  // namespace vi::pipeline
