#include "eval/benchmark/predictions.h"

#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "core/common/error.h"
#include "core/common/file.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace {

// A model may emit half a character; JSON may not hold it.
std::string valid(const std::string& bytes) {
  return text::is_valid_utf8(bytes) ? bytes : text::to_utf8(text::to_utf32(bytes));
}

ScoreSummary summarise_values(const std::vector<double>& values) {
  ScoreSummary summary;
  summary.n = static_cast<std::int64_t>(values.size());
  if (values.empty()) return summary;
  double sum = 0.0, squares = 0.0;
  for (const double value : values) sum += value;
  const double n = static_cast<double>(values.size());
  summary.mean = sum / n;
  for (const double value : values) squares += (value - summary.mean) * (value - summary.mean);
  if (values.size() > 1) summary.stderr_of_mean = std::sqrt(squares / (n - 1) / n);
  return summary;
}

// Mean over the samples of each document, in the order the documents first appear.
template <class Keep>
ScoreSummary summarise_if(const std::vector<Prediction>& predictions, Keep&& keep) {
  std::vector<std::pair<double, std::int64_t>> sums;
  std::map<std::pair<std::string, std::int64_t>, std::size_t> place;
  for (const Prediction& prediction : predictions) {
    if (!keep(prediction)) continue;
    const auto [entry, fresh] = place.try_emplace({prediction.task, prediction.doc}, sums.size());
    if (fresh) sums.emplace_back(0.0, 0);
    sums[entry->second].first += prediction.score;
    ++sums[entry->second].second;
  }
  std::vector<double> values;
  for (const auto& [sum, n] : sums) values.push_back(sum / static_cast<double>(n));
  return summarise_values(values);
}

}  // namespace

Json to_json(const Prediction& p) {
  return Json{{"task", p.task},
              {"task_version", p.task_version},
              {"doc", p.doc},
              {"sample", p.sample},
              {"_id", valid(p.id)},
              {"prompt_sha256", p.prompt_sha256},
              {"prompt_tokens_full", p.prompt_tokens_full},
              {"prompt_tokens", p.prompt_tokens},
              {"chat_template", p.chat_template},
              {"stop_reason", p.stop_reason},
              {"seed", p.seed},
              {"new_tokens", p.new_tokens},
              {"tokens", p.tokens},
              {"prediction", valid(p.prediction)},
              {"answers", p.answers},
              {"all_classes", p.all_classes},
              {"length", p.length},
              {"score", p.score}};
}

Prediction prediction_from_json(const Json& json, std::string_view place) {
  if (!json.is_object()) fail<ContractError>("{}: expected a JSON object", place);
  Prediction p;
  read_field(json, place, "task", p.task);
  read_field(json, place, "task_version", p.task_version);
  read_field(json, place, "doc", p.doc);
  read_field(json, place, "sample", p.sample);
  read_field(json, place, "_id", p.id);
  read_field(json, place, "prompt_sha256", p.prompt_sha256);
  read_field(json, place, "prompt_tokens_full", p.prompt_tokens_full);
  read_field(json, place, "prompt_tokens", p.prompt_tokens);
  read_field(json, place, "chat_template", p.chat_template);
  read_field(json, place, "stop_reason", p.stop_reason);
  read_field(json, place, "seed", p.seed);
  read_field(json, place, "new_tokens", p.new_tokens);
  read_field(json, place, "tokens", p.tokens);
  read_field(json, place, "prediction", p.prediction);
  read_field(json, place, "answers", p.answers);
  read_field(json, place, "all_classes", p.all_classes);
  read_field(json, place, "length", p.length);
  read_field(json, place, "score", p.score);
  if (p.doc < 0 || p.sample < 0) fail<ContractError>("{}:doc: expected numbers from 0", place);
  return p;
}

std::vector<Prediction> read_predictions(const std::filesystem::path& path, const Task* task) {
  const std::string all = read_file(path);
  std::vector<Prediction> predictions;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = all.find('\n', begin);
    if (end == std::string::npos) break;  // torn by a kill: that record is made again
    const std::string_view line = std::string_view(all).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (text::trim_ascii(line).empty()) continue;
    const std::string place = fmt::format("{}:{}", path.string(), number);
    predictions.push_back(prediction_from_json(parse_json(line, place), place));
    const Prediction& p = predictions.back();
    if (task && p.task != task->name)
      fail<ContractError>("{}:task: is of task '{}', expected '{}'", place, p.task, task->name);
    if (task && p.task_version != task->version)
      fail<ContractError>("{}:task_version: is of version {} of {}, this build has version {}",
                          place, p.task_version, p.task, task->version);
  }
  return predictions;
}

ScoreSummary summarise(const std::vector<Prediction>& predictions) {
  return summarise_if(predictions, [](const Prediction&) { return true; });
}

std::vector<std::pair<std::string, ScoreSummary>> summarise_by_length(
    const std::vector<Prediction>& predictions) {
  struct Bucket {
    const char* name;
    std::int64_t from, to;
  };
  constexpr std::array kBuckets{Bucket{"0-4k", 0, 4000}, Bucket{"4-8k", 4000, 8000},
                                Bucket{"8k+", 8000, INT64_MAX}};
  std::vector<std::pair<std::string, ScoreSummary>> result;
  for (const Bucket& bucket : kBuckets) {
    const ScoreSummary summary = summarise_if(predictions, [&](const Prediction& p) {
      return p.length >= bucket.from && p.length < bucket.to;
    });
    if (summary.n > 0) result.emplace_back(bucket.name, summary);
  }
  return result;
}

}  // namespace vi::eval
