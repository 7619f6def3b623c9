// evaluate: one method on one task. predictions.jsonl gets one line a unit of work (a window, a
// prompt) as it is done, so that a killed run goes on where it stopped; scores.jsonl and
// metrics.json are made from it.
#include <cmath>
#include <sstream>

#include "core/codec/codec_io.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/interrupt.h"
#include "core/decoder/decoder.h"
#include "core/model/load.h"
#include "eval/generate.h"
#include "eval/layer_errors.h"
#include "eval/math/checker.h"
#include "eval/modes.h"
#include "eval/needle.h"
#include "eval/perplexity.h"
#include "eval/predictions.h"
#include "eval/rescore.h"
#include "eval/step_model.h"
#include "eval/task.h"
#include "eval/text_records.h"
#include "eval/truncate.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"
#include "pipeline/tasks.h"

namespace vi::pipeline {
namespace {

constexpr std::int64_t kBitsAt =
    32768;                         // tokens at which bits_total is counted (architecture: bits_at)
constexpr std::int64_t kMillionTokens = 4096;  // MILLION's prompts, whatever the model holds
constexpr int kErrorTokens = 512;  // of the first text, for the error per layer

using Lines = std::vector<Json>;

std::shared_ptr<const codec::Codec> load_codec(StageContext& context, codec::CodecSpec spec) {
  const model::ModelConfig& config = context.session.model().config;
  codec::TransformSet transforms;
  codec::CodebookSet books;
  transforms.n_layers = config.n_layers;
  transforms.n_kv_heads = config.n_kv_heads;
  transforms.head_dim = config.head_dim;
  if (const auto* artifact = context.find_input("transform"))
    transforms = codec::read_transforms(artifact->open_h5("transform.h5"));
  if (const auto* artifact = context.find_input("codebook"))
    books = codec::read_codebooks(artifact->open_h5("codebook.h5"));
  return std::make_shared<codec::Codec>(std::move(spec), config.n_layers, config.n_kv_heads,
                                        config.head_dim, std::move(transforms), std::move(books));
}

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

// What earlier, killed runs finished; then appends.
class Records {
 public:
  explicit Records(const std::filesystem::path& path) : appender_(path) {
    for_each_json_line(path, [&](std::int64_t, const Json& line) { lines_.push_back(line); });
  }
  const Lines& lines() const { return lines_; }
  void add(const Json& line) {
    appender_.append(line.dump());
    lines_.push_back(line);
  }

 private:
  LineAppender appender_;
  Lines lines_;
};

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
  if (!codec->spec().exact() && task.mode != Mode::stream) {
    const auto length = static_cast<std::size_t>(std::min(kErrorTokens, task.window));
    const eval::LayerErrors errors = eval::layer_errors(session.decoder(), codec, std::span(texts.front()).first(length));
    metrics["key_error"] = errors.key;
    metrics["value_error"] = errors.value;
    metrics["output_error"] = errors.output;
  }
}

// A prompt that is ready for the model, and how its answer is scored.
struct Prompt {
  eval::Prediction record;  // all but the answer
  std::vector<std::int32_t> ids;
  int max_new_tokens = 0, min_new_tokens = 0;
  std::vector<std::int32_t> stop_ids;
  std::string prefix;  // begins the model's turn and belongs to no answer
  model::SamplerSettings sampler;
  std::function<double(const std::string&)> score;
};

std::vector<eval::Prediction> answer_prompts(StageContext& context, const std::shared_ptr<const codec::Codec>& codec,
                    std::size_t n, const std::function<Prompt(std::size_t)>& make, Json& metrics) {
  Session& session = context.session;
  const model::ModelConfig& config = session.model().config;
  const model::Tokenizer& tokenizer = *session.model().tokenizer;
  std::string how;
  const auto model = eval::make_step_model(session.decoder(), codec, session.max_length(), &how);
  if (session.device() == Device::cuda) context.progress.note("cache: " + how);
  Records records(context.pending.path("predictions.jsonl"));
  context.progress.begin(session.current_label, static_cast<std::int64_t>(n));
  context.progress.advance(static_cast<std::int64_t>(std::min(records.lines().size(), n)));
  for (std::size_t i = records.lines().size(); i < n; ++i) {
    check_interrupt();
    Prompt prompt = make(i);
    eval::GenerateSettings settings;
    settings.sampler = prompt.sampler;
    settings.max_new_tokens = prompt.max_new_tokens;
    settings.min_new_tokens = prompt.min_new_tokens;
    settings.end_ids = config.eos_ids;
    settings.stop_ids = prompt.stop_ids;
    settings.context = session.max_length();
    const eval::Generation generation =
        eval::generate(*model, prompt.ids, settings);
    eval::Prediction& record = prompt.record;
    record.prompt_tokens = static_cast<std::int64_t>(prompt.ids.size());
    record.stop_reason = eval::name(generation.reason);
    record.new_tokens = static_cast<std::int64_t>(generation.ids.size());
    record.tokens = generation.ids;
    record.prediction = tokenizer.decode(generation.ids, true);
    // A token may end inside a UTF-8 sequence; JSON holds whole ones only.
    record.prediction =
        Json::parse(Json(record.prediction).dump(-1, ' ', false, Json::error_handler_t::replace))
            .get<std::string>();
    record.score = prompt.score(record.prediction);
    records.add(eval::to_json(record));
    context.progress.advance(1);
  }
  context.progress.end();
  std::vector<eval::Prediction> predictions;
  std::string score_lines;
  for (const Json& line : records.lines()) {
    predictions.push_back(eval::prediction_from_json(line, "predictions.jsonl"));
    const eval::Prediction& one = predictions.back();
    score_lines +=
        Json{{"doc", one.doc}, {"id", one.id}, {"sample", one.sample}, {"score", one.score}}
            .dump() +
        "\n";
  }
  write_file_atomic(context.pending.path("scores.jsonl"), score_lines);
  const eval::ScoreSummary summary = eval::summarise(predictions);
  metrics["score"] = summary.mean;
  metrics["n"] = summary.n;
  metrics["stderr"] = summary.n < 2 ? Json(nullptr) : Json(summary.stderr_of_mean);
  metrics["mode"] = "generate";
  return predictions;
}

// Tokens that the chat template puts around a user's text; 0 without a template.
std::int64_t template_tokens(Session& session) {
  const model::Model& model = session.model();
  if (!model.has_chat_template()) return 0;
  return std::ssize(model.tokenizer->encode(model.chat_prompt({{"user", ""}})));
}

// Chat form where the model has a template and the task wants it.
std::vector<std::int32_t> encode_prompt(Session& session, const std::string& text, bool chat,
                                        std::string& template_name,
                                        const std::string& prefix = {}) {
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
      context, codec, cells.size() * samples,
      [&](std::size_t i) {
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
      },
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
  const auto predictions = answer_prompts(
      context, codec, documents.documents.size() * static_cast<std::size_t>(task.sampling.samples),
      [&](std::size_t i) {
        const auto samples = static_cast<std::size_t>(task.sampling.samples);
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
      },
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

}  // namespace

std::vector<std::string> run_evaluate(StageContext& context, const Method& method,
                                      const TaskSpec& task) {
  codec::CodecSpec spec = method.codec;
  if (task.recent) spec.window.recent = *task.recent;
  if (task.sinks) spec.window.sinks = *task.sinks;
  const auto codec = load_codec(context, spec);
  Json metrics;
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
