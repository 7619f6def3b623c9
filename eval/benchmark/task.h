// A benchmark task is data: one versioned YAML under eval/tasks/<suite>/ names file, prompt,
// limits, metric and stop rule. This header reads tasks, groups of tasks and their records.
// Invariant: a record is either whole and valid or skipped, counted and named with file:line.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/common/json.h"
#include "core/config/options.h"

namespace vi::eval {

using namespace std::string_view_literals;

enum class RecordFormat { longbench, math500, gsm8k, aime, amc };
constexpr auto enum_names(RecordFormat) {
  return std::array{std::pair{"longbench"sv, RecordFormat::longbench},
                    std::pair{"math500"sv, RecordFormat::math500},
                    std::pair{"gsm8k"sv, RecordFormat::gsm8k},
                    std::pair{"aime"sv, RecordFormat::aime}, std::pair{"amc"sv, RecordFormat::amc}};
}

enum class Truncation { middle, none };  // none: a prompt longer than the model is an error
constexpr auto enum_names(Truncation) {
  return std::array{std::pair{"middle"sv, Truncation::middle},
                    std::pair{"none"sv, Truncation::none}};
}

// What is done to the generated text before the metric sees it.
enum class PostProcess {
  none,
  first_line
};  // first_line: after leading newlines, up to the next one
constexpr auto enum_names(PostProcess) {
  return std::array{std::pair{"none"sv, PostProcess::none},
                    std::pair{"first_line"sv, PostProcess::first_line}};
}

// Beside the model's own end tokens. `last_token_of`: the last id of this text's encoding without
// special tokens ends the generation (LongBench's rule for samsum); it may not be chosen before
// min_new_tokens.
struct StopRule {
  std::string last_token_of;
  int min_new_tokens = 0;
  template <class V>
  void visit(V& v) {
    v("last_token_of", last_token_of, "the last token of this text also ends the generation");
    v("min_new_tokens", min_new_tokens, "no end token is chosen before this many tokens");
  }
};

// Decoding the task was defined with; a model or an experiment may override it.
struct Sampling {
  double temperature = 0.0;  // 0: greedy
  double top_p = 1.0;
  int samples = 1;  // generations a record; Pass@1 is their mean
  template <class V>
  void visit(V& v) {
    v("temperature", temperature, "0 is greedy");
    v("top_p", top_p, "nucleus mass, in (0, 1]");
    v("samples", samples, "generations a record");
  }
};

struct Task {
  std::string name;  // "longbench/qasper": suite folder and file name, set by the loader
  int version = 0;
  std::string description;
  std::string file;  // relative to the data folder
  RecordFormat format = RecordFormat::longbench;
  std::string language;  // en | zh | code
  std::string prompt;    // {context}, {input}, ...: fields of the record
  int max_new_tokens = 0;
  bool chat_template = true;
  Truncation truncation = Truncation::middle;
  std::string metric;  // a name of scorers/registry.h, or "math"
  PostProcess post_process = PostProcess::none;
  StopRule stop;
  Sampling sampling;

  template <class V>
  void visit(V& v) {
    v("version", version, "raised when anything that changes a score changes");
    v("description", description, "one line");
    v("file", file, "file name under the data folder");
    v("format", format, "form of the records");
    v("language", language, "en, zh or code");
    v("prompt", prompt, "template; {field} is replaced, {{ and }} are braces");
    v("max_new_tokens", max_new_tokens, "limit of the generation");
    v("chat_template", chat_template, "wrap the prompt in the model's chat template");
    v("truncation", truncation, "what is done to a prompt above the model's limit");
    v("metric", metric, "scorer");
    v("post_process", post_process, "applied to the prediction before the metric");
    v("stop", stop, "stop rule beside the model's end tokens");
    v("sampling", sampling, "decoding");
  }
  void check(const config::Mark& mark) const;
};

// Unweighted mean over its tasks, as the papers report it.
struct TaskGroup {
  std::string name;
  int version = 0;
  std::string description;
  std::vector<std::string> tasks;
  template <class V>
  void visit(V& v) {
    v("version", version, "raised when the list changes");
    v("description", description, "one line");
    v("tasks", tasks, "task names; the group's score is their unweighted mean");
  }
  void check(const config::Mark& mark) const;
};

// The YAML files under one folder (eval/tasks of the source tree, or a copy).
class TaskLibrary {
 public:
  explicit TaskLibrary(std::filesystem::path root);
  const std::filesystem::path& root() const { return root_; }
  std::vector<std::string> task_names() const;   // sorted
  std::vector<std::string> group_names() const;  // sorted
  Task task(std::string_view name) const;        // ConfigError with the nearest name
  TaskGroup group(std::string_view name) const;
  bool is_group(std::string_view name) const;
  std::vector<Task> expand(std::string_view task_or_group) const;

 private:
  std::filesystem::path find(std::string_view name, bool group) const;
  std::filesystem::path root_;
  std::vector<std::string> tasks_, groups_;
};

struct Document {
  std::int64_t index =
      0;           // 0-based place among the file's lines that are not blank, bad ones included
  std::int64_t line = 0;  // from 1, for messages
  std::string id;  // _id, unique_id, ... or the index
  Json record;     // the whole line
  std::vector<std::string> answers;
  std::vector<std::string> all_classes;
  std::int64_t length = -1;  // LongBench's own word count, -1 if none
};

struct SkippedRecord {
  std::int64_t line = 0;
  std::string message;  // file:line:field: what was expected
};

struct Documents {
  std::vector<Document> documents;
  std::vector<SkippedRecord> skipped;
};

// The task's file under `folder`: folder/file, folder/e/file, folder/<suite>/file,
// folder/<suite>/e/file or folder/data/file. ContractError naming the places if there is none.
std::filesystem::path find_task_file(const Task& task, const std::filesystem::path& folder);

// `limit` < 0: all. Bad records do not count towards the limit. ContractError only if the file
// cannot be read.
Documents read_documents(const Task& task, const std::filesystem::path& file,
                         std::int64_t limit = -1);

// The template filled from the record, byte for byte as Python's str.format(**record) does it.
std::string render_prompt(const Task& task, const Document& document);

// PostProcess, then the metric, best answer. 0..1.
double score_prediction(const Task& task, std::string_view prediction,
                        const std::vector<std::string>& answers, const Json& record);
std::string post_process(const Task& task, std::string_view prediction);

}  // namespace vi::eval
