#include "pipeline/experiment.h"

#include <algorithm>
#include <set>

#include "core/codec/method.h"
#include "pipeline/paths.h"
#include "pipeline/tasks.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
using config::config_fail;
using config::Mark;
using config::Node;

void CalibrationSpec::check(const Mark& mark) const {
  if (seq_len < 16) config_fail(mark, "calibration: seq_len {} is below 16", seq_len);
  if (sequences < 1) config_fail(mark, "calibration: sequences {} is below 1", sequences);
  if (tokens < 16) config_fail(mark, "calibration: tokens {} is below 16", tokens);
  if (probes < 0) config_fail(mark, "calibration: probes {} is negative", probes);
  if (!(temperature > 0)) config_fail(mark, "calibration: temperature {} is not positive", temperature);
  if (source == TextSource::model && !files.empty()) config_fail(mark, "calibration: 'files' beside 'source: model': one text at a time; files: [] takes them away");
}

void CodebookSpec::check(const Mark& mark) const {
  train.check(mark);
  if (tune_steps < 0) config_fail(mark, "codebook: tune_steps {} is negative", tune_steps);
  if (!(tune_rate > 0 && tune_rate <= 1)) config_fail(mark, "codebook: tune_rate {} is not in (0, 1]", tune_rate);
  if (tune_window < 2) config_fail(mark, "codebook: tune_window {} is below 2", tune_window);
}

void GenerationSpec::check(const Mark& mark) const {
  if (batch < 1 || batch > 1024) config_fail(mark, "generation: batch {} is not in 1..1024", batch);
}

namespace {

void refuse(const Mark& mark, const TaskSpec& task, bool given, const char* key) {
  if (given) config_fail(mark, "task '{}' has no use for '{}'", task.task, key);
}

}  // namespace

void TaskSpec::check(const Mark& mark) const {
  if (task.empty()) config_fail(mark, "a task needs 'task: perplexity | needle | a benchmark's name'");
  const bool perplexity = task == "perplexity", retrieval = task == "needle";
  if (perplexity && files.empty()) config_fail(mark, "task 'perplexity' needs 'files'");
  if (window < 2) config_fail(mark, "window {} is below 2", window);
  if (count < 0 || limit < 0 || max_new_tokens < 0 || max_length < 0)
    config_fail(mark, "count, limit, max_new_tokens and max_length must not be negative");
  if (perplexity && mode == Mode::stream && (prefill < 1 || prefill >= window))
    config_fail(mark, "prefill {} is not in 1..{} (window - 1)", prefill, window - 1);
  if (stride < 0 || stride > window) config_fail(mark, "stride {} is not in 0..{} (window)", stride, window);
  if (stride != 0 && stride != window && (!perplexity || mode == Mode::stream))
    config_fail(mark, "stride belongs to task perplexity, modes all and window");
  if (recent && *recent < 0) config_fail(mark, "recent {} is negative", *recent);
  if (sinks && *sinks < 0) config_fail(mark, "sinks {} is negative", *sinks);
  if ((recent || sinks) && !(perplexity && mode == Mode::window))
    config_fail(mark, "recent and sinks belong to task perplexity, mode window");
  if (retrieval) {
    if (lengths.empty()) config_fail(mark, "task 'needle' needs 'lengths'");
    for (int length : lengths)
      if (length < 64) config_fail(mark, "needle: length {} is below 64 tokens", length);
    for (double depth : depths)
      if (!(depth >= 0 && depth <= 1)) config_fail(mark, "needle: depth {} is not in 0..1", depth);
    if (samples < 1) config_fail(mark, "needle: samples {} is below 1", samples);
    needle_spec(*this);
  } else {
    refuse(mark, *this, this->needle.kind != Node::Kind::null, "needle");
    refuse(mark, *this, !lengths.empty(), "lengths");
    refuse(mark, *this, !depths.empty(), "depths");
  }
  if (!perplexity && !retrieval) {
    if (task.find('/') == std::string::npos)
      config_fail(mark, "unknown task '{}': expected perplexity, needle or <suite>/<name> of `vecinfer list tasks`", task);
    if (dir.empty()) config_fail(mark, "task '{}' needs 'dir', the folder of its JSONL files", task);
    refuse(mark, *this, !files.empty(), "files");
  } else {
    refuse(mark, *this, !dir.empty(), "dir");
    refuse(mark, *this, limit != 0, "limit");
    refuse(mark, *this, protocol != Protocol::official, "protocol");
  }
}

namespace {

// A name or a path as the map it stands for.
Node model_map(const Node& node) {
  if (node.kind != Node::Kind::scalar) return node;
  const std::string& name = node.scalar;
  const std::vector<std::string> known = named_files("models");
  if (std::find(known.begin(), known.end(), name) != known.end() || name.ends_with(".yaml"))
    return config::load_yaml(resolve_named(name, "models", node.mark), {project_root() / "experiments"});
  if (!name.ends_with(".gguf") && name.find('/') == std::string::npos && !fs::is_directory(name))
    resolve_named(name, "models", node.mark);  // fails with the nearest name
  Node map;
  map.kind = Node::Kind::map;
  map.mark = node.mark;
  map.fields.emplace_back("path", node);
  return map;
}

}  // namespace

ModelSpec load_model_spec(const Node& node) {
  const Node resolved = model_map(node);
  if (resolved.kind == Node::Kind::null) config_fail(node.mark, "model: expected a name, a path or a map");
  ModelSpec spec;
  config::read(resolved, spec);
  const Node* path = resolved.find("path");
  const Mark mark = path ? path->mark : resolved.mark;
  if (spec.path.empty()) config_fail(mark, "model: 'path' is missing");
  spec.path = resolve_path(spec.path, mark).string();
  if (spec.name.empty()) spec.name = fs::path(spec.path).stem().string();
  if (spec.max_length < 0) config_fail(mark, "model: max_length is negative");
  if (spec.chat.kind != Node::Kind::null && spec.chat.kind != Node::Kind::map)
    config_fail(spec.chat.mark, "model: chat: expected a map of template variables, e.g. {{enable_thinking: false}}");
  return spec;
}

ModelSpec load_model_spec(const std::string& name_or_path) {
  Node node;
  node.kind = Node::Kind::scalar;
  node.scalar = name_or_path;
  node.mark = {std::make_shared<const std::string>("--model"), 1, 1};
  return load_model_spec(node);
}

namespace {

Method resolve_method(const MethodEntry& entry, const Mark& mark, const Experiment& experiment) {
  if (entry.method.empty()) config_fail(mark, "a method needs 'method: name'");
  Node preset = config::load_yaml(resolve_named(entry.method, "methods", mark), {project_root() / "experiments"});
  if (entry.codec.kind != Node::Kind::null) {
    Node over;
    over.kind = Node::Kind::map;
    over.mark = entry.codec.mark;
    over.fields.emplace_back("codec", entry.codec);
    config::merge(preset, over);
  }
  codec::MethodSpec spec;
  config::read(preset, spec);
  Method method;
  method.name = entry.as.empty() ? spec.name : entry.as;
  method.description = spec.description;
  method.fidelity = std::string(config::to_string(spec.fidelity));
  method.source = spec.source;
  method.codec = spec.codec;
  method.mark = mark;
  Node codebook;
  codebook.kind = Node::Kind::map;
  const Json base = config::to_json(experiment.codebook);
  for (const auto& [key, value] : base.items()) {
    Node scalar;
    scalar.kind = Node::Kind::scalar;
    scalar.scalar = value.is_string() ? value.get<std::string>() : value.dump();
    codebook.fields.emplace_back(key, scalar);
  }
  if (entry.codebook.kind != Node::Kind::null) config::merge(codebook, entry.codebook);
  config::read(codebook, method.codebook);
  if (entry.layers.empty()) return method;
  if (entry.as.empty()) config_fail(mark, "a method put together by layers needs a name of its own: 'as'");
  std::set<int> seen;
  const Method* coded = method.codec.exact() ? nullptr : &method;
  for (const LayerEntry& layer : entry.layers) {
    method.parts.push_back({resolve_method({.method = layer.method, .as = {}, .codec = layer.codec, .codebook = entry.codebook, .layers = {}},
                                           mark, experiment),
                            layer.layers, layer.share});
    if (layer.share != 0) {
      if (!(layer.share > 0 && layer.share <= 1)) config_fail(mark, "layers: share {} is not above 0 and at most 1", layer.share);
      if (!layer.layers.empty()) config_fail(mark, "layers: '{}' has 'layers' and 'share'; one of them says which", layer.method);
      if (entry.layers.size() > 1) config_fail(mark, "layers: 'share' stands alone, without other entries");
      if (!coded) config_fail(mark, "layers: 'share' takes the layers that mind '{}' most, which codes nothing", method.name);
      continue;
    }
    if (layer.layers.empty()) config_fail(mark, "layers: '{}' codes none: 'layers: [0, ...]' is missing", layer.method);
    for (const int l : layer.layers)
      if (l < 0 || !seen.insert(l).second) config_fail(mark, "layers: layer {} {}", l, l < 0 ? "is negative" : "is named twice");
  }
  for (const MethodPart& part : method.parts) {
    if (part.method.codec.exact()) continue;
    if (coded && config::to_json(coded->codec.window) != config::to_json(part.method.codec.window))
      config_fail(mark, "layers: '{}' and '{}' differ in 'codec: window'; one window serves all layers", coded->name, part.method.name);
    coded = &part.method;
  }
  return method;
}

std::string default_task_name(const TaskSpec& task) {
  if (task.task == "perplexity") return fmt::format("perplexity-{}", config::to_string(task.mode));
  if (task.task == "needle") return task.kind;
  return task.task;
}

}  // namespace

bool calibrated(const Method& m) {
  return m.codec.key.code.kind == codec::CodeKind::vector || m.codec.value.code.kind == codec::CodeKind::vector ||
         m.codec.key.tap == codec::Tap::pre_rope || !m.codec.key.transforms.empty() || !m.codec.value.transforms.empty() ||
         std::any_of(m.parts.begin(), m.parts.end(), [](const MethodPart& part) { return calibrated(part.method); });
}

Plan load_plan(const std::string& yaml, const std::vector<std::string>& sets, const Overrides* overrides) {
  Node root = config::load_yaml(yaml, {project_root() / "experiments", project_root()});
  // --model comes before --set, which may name a key of it; the others after, as they look at what is there.
  Overrides others = overrides ? *overrides : Overrides{};
  others.model.clear();
  if (overrides) apply_overrides(root, Overrides{.model = overrides->model, .methods = {}, .tasks = {}, .data = {}});
  for (const std::string& set : sets) {
    // --set model.dtype=f16 where the YAML names a model: one key of that model's YAML.
    if (set.starts_with("model."))
      if (Node* model = root.find("model"); model && model->kind == Node::Kind::scalar) *model = model_map(*model);
    config::apply_set(root, set);
  }
  apply_overrides(root, others);
  Plan plan;
  Experiment& experiment = plan.experiment;
  config::read(root, experiment);
  if (experiment.experiment.empty()) experiment.experiment = fs::path(yaml).stem().string();
  if (experiment.model.kind == Node::Kind::null) config_fail(root.mark, "'model' is missing");
  plan.model = load_model_spec(experiment.model);

  if (const Node* calibration = root.find("calibration"))
    if (const Node* files = calibration->find("files"))
      for (std::size_t i = 0; i < files->items.size(); ++i)
        experiment.calibration.files[i] = resolve_path(files->items[i].scalar, files->items[i].mark).string();

  std::set<std::string> names;
  const Node* methods = root.find("methods");
  for (std::size_t i = 0; i < experiment.methods.size(); ++i) {
    const Mark mark = methods->items[i].mark;
    plan.methods.push_back(resolve_method(experiment.methods[i], mark, experiment));
    if (!names.insert(plan.methods.back().name).second)
      config_fail(mark, "method name '{}' is used twice; give one another name with 'as'", plan.methods.back().name);
  }
  if (plan.methods.empty()) config_fail(root.mark, "'methods' is missing or empty");
  if (std::any_of(plan.methods.begin(), plan.methods.end(), calibrated) && experiment.calibration.source == TextSource::files && experiment.calibration.files.empty())
    config_fail(root.mark, "'calibration: files' is missing, and a method of this experiment needs calibration");

  names.clear();
  std::vector<const Node*> nodes;
  if (const Node* tasks = root.find("evaluate"))
    for (const Node& node : tasks->items) nodes.push_back(&node);
  expand_groups(experiment.evaluate, nodes, plan.groups);
  for (std::size_t i = 0; i < experiment.evaluate.size(); ++i) {
    TaskSpec& task = experiment.evaluate[i];
    const Node& node = *nodes[i];
    if (task.name.empty()) task.name = default_task_name(task);
    if (!names.insert(task.name).second)
      config_fail(node.mark, "task name '{}' is used twice; give one another 'name'", task.name);
    if (const Node* files = node.find("files"))
      for (std::size_t f = 0; f < files->items.size(); ++f)
        task.files[f] = resolve_path(files->items[f].scalar, files->items[f].mark).string();
    if (const Node* dir = node.find("dir")) task.dir = resolve_path(dir->scalar, dir->mark).string();
  }
  add_means(experiment.report.means, root.find("report") ? root.find("report")->mark : root.mark, experiment.evaluate, plan.groups);
  return plan;
}

}  // namespace vi::pipeline
