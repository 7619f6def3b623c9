// An experiment as typed settings: what experiments/*.yaml may say. `vecinfer list keys` prints this.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/codec/spec.h"
#include "core/codec/train.h"
#include "core/config/options.h"

namespace vi::pipeline {

using namespace std::string_view_literals;

enum class Dtype { f32, bf16, f16 };
constexpr auto enum_names(Dtype) {
  return std::array{std::pair{"f32"sv, Dtype::f32}, std::pair{"bf16"sv, Dtype::bf16}, std::pair{"f16"sv, Dtype::f16}};
}

enum class Device { cpu, cuda };
constexpr auto enum_names(Device) { return std::array{std::pair{"cpu"sv, Device::cpu}, std::pair{"cuda"sv, Device::cuda}}; }

struct ModelSpec {
  std::string name;
  std::string path;
  std::string description;
  std::string sha256;  // "" = not checked
  Dtype dtype = Dtype::f32;
  std::int64_t max_length = 0;
  config::Node chat;  // map or null
  template <class V>
  void visit(V& v) {
    v("name", name, "the name in result lines");
    v("path", path, "a GGUF file or a Hugging Face folder");
    v("description", description, "one line");
    v("sha256", sha256, "expected checksum of the weights file; empty: any");
    v("dtype", dtype, "f32 | bf16 | f16 (f16: on a GPU only)");
    v("max_length", max_length, "longest prompt in tokens; 0: what the model says");
    v("chat", chat, "further variables of the chat template, e.g. {enable_thinking: false}");
  }
};

// Whose text calibrates: given files, or what the model itself writes.
enum class TextSource { files, model };
constexpr auto enum_names(TextSource) {
  return std::array{std::pair{"files"sv, TextSource::files}, std::pair{"model"sv, TextSource::model}};
}

struct CalibrationSpec {
  TextSource source = TextSource::files;
  double temperature = 1.0;
  std::vector<std::string> files;
  std::string field = "text";
  int seq_len = 2048;
  int sequences = 8;
  std::int64_t tokens = 16384;
  int probes = 256;
  std::uint64_t seed = 0;
  bool allow_leak = false;
  template <class V>
  void visit(V& v) {
    v("source", source, "files | model: what the model writes itself, each sequence from a random first token; no text is needed");
    v("temperature", temperature, "source: model: of its sampling");
    v("files", files, "text files, or .jsonl files of which `field` is read");
    v("field", field, "the text's field in a .jsonl file");
    v("seq_len", seq_len, "tokens of one sequence through the model");
    v("sequences", sequences, "sequences drawn from the text (reservoir, so memory does not grow with the text)");
    v("tokens", tokens, "tokens of them that are kept, drawn evenly");
    v("probes", probes, "tokens whose queries are kept");
    v("seed", seed, "seed of both draws");
    v("allow_leak", allow_leak, "calibrate on a text that is also evaluated on; every result line records it");
  }
  void check(const config::Mark& mark) const;
};

struct CodebookSpec {
  codec::TrainSettings train{.seed = 0};
  int tune_steps = 0;
  double tune_rate = 0.01;
  int tune_window = 1024;
  template <class V>
  void visit(V& v) {
    train.visit(v);
    v("tune_steps", tune_steps, "steps of tuning the centroids end to end; 0: k-means alone");
    v("tune_rate", tune_rate, "its first step, in units of a codebook's root mean square");
    v("tune_window", tune_window, "tokens of one step");
  }
  void check(const config::Mark& mark) const;
};

// Layers of a method that another one codes.
struct LayerEntry {
  std::string method;
  config::Node codec;
  std::vector<int> layers;
  double share = 0;
  template <class V>
  void visit(V& v) {
    v("method", method, "a name under experiments/methods, or a YAML file");
    v("codec", codec, "keys that replace the preset's codec keys");
    v("layers", layers, "which layers, from 0");
    v("share", share, "in place of `layers`: this share of them (0..1, rounded down), those that mind the method around most (stage sensitivity)");
  }
};

// A method of the experiment: a preset by name or path, with overrides.
struct MethodEntry {
  std::string method;
  std::string as;  // "" = the preset's name
  config::Node codec;
  config::Node codebook;
  std::vector<LayerEntry> layers;
  template <class V>
  void visit(V& v) {
    v("method", method, "a name under experiments/methods, or a YAML file");
    v("as", as, "another name for the result lines");
    v("codec", codec, "keys that replace the preset's codec keys");
    v("codebook", codebook, "keys that replace the experiment's codebook keys");
    v("layers", layers, "layers that other methods code, each trained as a method of its own");
  }
  static MethodEntry from_scalar(std::string_view word) { MethodEntry e; e.method = word; return e; }
};

enum class Mode { all, window, stream };
constexpr auto enum_names(Mode) {
  return std::array{std::pair{"all"sv, Mode::all}, std::pair{"window"sv, Mode::window}, std::pair{"stream"sv, Mode::stream}};
}

// Whose prompts: the official script's, or MILLION's (4096 tokens, no template, middle cut).
enum class Protocol { official, million };
constexpr auto enum_names(Protocol) {
  return std::array{std::pair{"official"sv, Protocol::official}, std::pair{"million"sv, Protocol::million}};
}

// One task. `task` is perplexity, needle, or a name of `vecinfer list tasks` such as longbench/qasper; keys
// that a task does not use are refused at load.
struct TaskSpec {
  std::string task;
  std::string name;
  std::vector<std::string> files;
  std::string field = "text";
  Mode mode = Mode::window;
  int window = 2048;
  int count = 0;
  int prefill = 1024;
  int stride = 0;
  std::optional<int> recent;
  std::optional<int> sinks;
  std::string dir;
  int limit = 0;
  std::int64_t max_length = 0;
  std::vector<int> lengths;
  std::vector<double> depths;
  int samples = 10;
  std::string kind = "passkey";
  config::Node needle;
  Protocol protocol = Protocol::official;
  std::uint64_t seed = 0;
  int max_new_tokens = 0;
  template <class V>
  void visit(V& v) {
    v("task", task, "perplexity | needle | a name of `vecinfer list tasks`");
    v("name", name, "the name in result lines; default: made from the task and its mode");
    v("files", files, "perplexity: the texts; needle: one text as haystack (none: repeated noise)");
    v("field", field, "the text's field in a .jsonl file");
    v("mode", mode, "all | window | stream: what the queries see (docs/evaluation.md)");
    v("window", window, "perplexity: tokens of one window");
    v("count", count, "perplexity: windows per file at most; 0: all");
    v("prefill", prefill, "perplexity, stream: tokens prefilled exactly and not scored");
    v("stride", stride, "perplexity, modes all and window: tokens from one window to the next; 0: window");
    v("recent", recent, "mode window: newest exact tokens instead of the codec's");
    v("sinks", sinks, "mode window: first exact tokens instead of the codec's");
    v("dir", dir, "benchmarks: the folder of official JSONL files");
    v("limit", limit, "benchmarks: records at most; 0: all");
    v("max_length", max_length, "longest prompt in tokens; 0: the model's");
    v("lengths", lengths, "needle: prompt lengths in tokens");
    v("depths", depths, "needle: depths from 0 (start) to 1 (end)");
    v("samples", samples, "needle: prompts per length and depth");
    v("kind", kind, "needle: passkey, single, multi_key, multi_value, multi_query, variable_tracking, common_words");
    v("needle", needle, "needle: haystack, key, value, keys, values, queries, chains, hops, ... of the prompts");
    v("protocol", protocol, "benchmarks: official | million (4096 tokens, no template, middle cut)");
    v("seed", seed, "needle: seed");
    v("max_new_tokens", max_new_tokens, "generated tokens at most; 0: the task's");
  }
  void check(const config::Mark& mark) const;
};

struct GenerationSpec {
  int batch = 8;
  template <class V>
  void visit(V& v) {
    v("batch", batch, "prompts answered side by side; less where memory is short (docs/evaluation.md)");
  }
  void check(const config::Mark& mark) const;
};

struct ProfileSpec {
  bool enabled = false;
  std::vector<std::int64_t> kv_lens{2048, 8192};
  template <class V>
  void visit(V& v) {
    v("enabled", enabled, "time the CPU attention and count cache bytes");
    v("kv_lens", kv_lens, "cache lengths of the timings");
  }
};

struct ReportSpec {
  int layer = -1;
  std::string note;
  std::vector<std::string> means;
  std::vector<int> tables;
  template <class V>
  void visit(V& v) {
    v("layer", layer, "layer of the outlier plots; -1: the middle one");
    v("note", note, "a text shown under the table");
    v("means", means, "groups of `list tasks`: the mean of each whose tasks the experiment runs is a row of its own");
    v("tables", tables, "the paper's tables that are shown beside the results, also for other models; none: those that fit");
  }
};

struct Experiment {
  std::string experiment;
  std::string description;
  config::Node model;
  CalibrationSpec calibration;
  CodebookSpec codebook;
  std::vector<MethodEntry> methods;
  std::vector<TaskSpec> evaluate;
  GenerationSpec generation;
  ProfileSpec profile;
  ReportSpec report;
  config::Node sweep;
  template <class V>
  void visit(V& v) {
    v("experiment", experiment, "the name in result lines; default: the file's name");
    v("description", description, "one line");
    v("model", model, "a name under experiments/models, a path to weights, or a map of its keys");
    v("calibration", calibration, "what keys and values are sampled from");
    v("codebook", codebook, "k-means settings");
    v("methods", methods, "the rows");
    v("evaluate", evaluate, "the tasks");
    v("generation", generation, "how answers are generated");
    v("profile", profile, "timings");
    v("report", report, "the report");
    v("sweep", sweep, "grid of settings for `vecinfer sweep`");
  }
};

struct MethodPart;

// A method of the experiment, fully resolved.
struct Method {
  std::string name, description, fidelity, source;
  codec::CodecSpec codec;
  CodebookSpec codebook;
  config::Mark mark;
  std::vector<MethodPart> parts;  // of which each codes some layers; this one the rest
};
struct MethodPart {
  Method method;
  std::vector<int> layers;
  double share = 0;  // > 0: in place of `layers`
};
bool calibrated(const Method& method);  // whether it, or a part, needs calibration samples

// Tasks that were written as one group: their unweighted mean is a result of its own.
struct TaskGroupRow {
  std::string name;
  int version = 0;
  std::vector<std::string> members;  // names of tasks of the experiment
};

struct Overrides;

// Everything resolved: composition, --set, names, paths and capabilities checked. ConfigError.
struct Plan {
  Experiment experiment;
  ModelSpec model;
  std::vector<Method> methods;
  std::vector<TaskGroupRow> groups;
  std::map<std::string, config::Mark> marks;  // where calibration files, task files ... were written
};

Plan load_plan(const std::string& yaml, const std::vector<std::string>& sets, const Overrides* overrides = nullptr);
ModelSpec load_model_spec(const config::Node& node);
ModelSpec load_model_spec(const std::string& name_or_path);  // the command line's --model

}  // namespace vi::pipeline
