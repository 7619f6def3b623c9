#include "pipeline/graph.h"

#include <algorithm>

#include "core/common/hash.h"
#include "eval/math/checker.h"
#include "eval/benchmark/task.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {

using artifact::Artifact;
using artifact::StageKey;
using codec::CodeKind;

const Artifact& StageContext::input(const std::string& name) const {
  const Artifact* found = find_input(name);
  VI_CHECK(found, "stage input '{}' is not wired", name);
  return *found;
}

const Artifact* StageContext::find_input(const std::string& name) const {
  for (const auto& [key, artifact] : inputs)
    if (key == name) return artifact;
  return nullptr;
}

namespace {

class Builder {
 public:
  explicit Builder(Session& session) : session_(session), plan_(session.plan()) {}

  Graph build() {
    const bool needs_dump = std::any_of(plan_.methods.begin(), plan_.methods.end(), calibrated);
    if (needs_dump) graph_.dump = add(dump());
    for (const Method& method : plan_.methods) graph_.methods.push_back(nodes_of(method));
    if (plan_.experiment.profile.enabled) graph_.profile = add(profile());
    if (!plan_.experiment.evaluate.empty()) graph_.report = add(report_node(session_, graph_));
    return std::move(graph_);
  }

 private:
  static bool vector_coded(const codec::SideSpec& side) { return side.code.kind == CodeKind::vector; }

  int add(Node node) {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& other = graph_.nodes[i];
      if (other.stage == node.stage && other.fields == node.fields && other.inputs == node.inputs &&
          other.files == node.files)
        return static_cast<int>(i);
    }
    graph_.nodes.push_back(std::move(node));
    return static_cast<int>(graph_.nodes.size()) - 1;
  }

  // Calibration text of the model's own.
  int text() {
    Node node;
    node.stage = "text";
    node.label = "calibration text by " + plan_.model.name;
    node.version = kTextVersion;
    const CalibrationSpec& spec = plan_.experiment.calibration;
    node.fields = Json{{"seq_len", spec.seq_len}, {"sequences", spec.sequences}, {"seed", spec.seed}, {"temperature", spec.temperature},
                       {"compute", session_.compute_fields()}};
    // As for evaluate: on a GPU rounding depends on the batch.
    if (session_.device() == Device::cuda) node.fields["batch"] = plan_.experiment.generation.batch;
    node.files["model"] = session_.model_sha256();
    node.code = run_text;
    return add(std::move(node));
  }

  Node dump() {
    Node node;
    node.stage = "dump";
    node.label = "dump " + plan_.model.name;
    node.version = kDumpVersion;
    const CalibrationSpec& spec = plan_.experiment.calibration;
    node.fields = Json{{"seq_len", spec.seq_len}, {"sequences", spec.sequences}, {"tokens", spec.tokens},
                       {"probes", spec.probes}, {"seed", spec.seed}, {"field", spec.field},
                       {"tap", "post_rope"}, {"compute", session_.compute_fields()}};
    node.files["model"] = session_.model_sha256();
    if (spec.source == TextSource::model) {
      node.fields.erase("field");
      node.inputs = {{"text", text()}};
    }
    for (std::size_t i = 0; i < spec.files.size(); ++i)
      node.files[fmt::format("text_{}", i)] = session_.file_sha256(spec.files[i]);
    node.code = run_dump;
    return node;
  }

  static bool has_metric(const codec::SideSpec& side) {
    return std::any_of(side.transforms.begin(), side.transforms.end(), [](const transform::TransformSpec& step) {
      return step.kind == transform::TransformKind::metric && step.moment != transform::Moment::identity;
    });
  }
  static bool weighted(const codec::SideSpec& side) {
    return vector_coded(side) && side.code.weights != codec::Weights::uniform;
  }

  // The same tokens as the dump.
  int gradients() {
    Node node = dump();
    node.stage = "gradients";
    node.label = "gradients of " + plan_.model.name;
    node.version = kGradientsVersion;
    node.fields.erase("probes");
    node.code = run_gradients;
    return add(std::move(node));
  }

  // The same tokens as the dump; the method's window says which pairs count.
  int statistics(const Method& method) {
    Node node = dump();
    node.stage = "statistics";
    node.label = "statistics of " + plan_.model.name;
    node.version = kStatisticsVersion;
    node.fields.erase("probes");
    node.fields["sinks"] = method.codec.window.sinks;
    node.fields["recent"] = method.codec.window.recent;
    node.code = run_statistics;
    return add(std::move(node));
  }

  MethodNodes nodes_of(const Method& method) {
    MethodNodes nodes = codec_nodes(method);
    std::vector<MethodNodes> parts;
    for (const MethodPart& part : method.parts) parts.push_back(codec_nodes(part.method));
    if (method.codebook.tune_steps > 0 && (nodes.kmeans >= 0 || !parts.empty())) {
      const int tuned = add(tune(method, nodes, parts));
      if (method.parts.empty())
        nodes.codebook = tuned;
      else
        nodes.tuned = tuned;
    }
    for (const TaskSpec& task : plan_.experiment.evaluate) nodes.evaluate.push_back(add(evaluate(method, task, nodes, parts)));
    return nodes;
  }

  // What its own codec needs, parts and tuning apart.
  MethodNodes codec_nodes(const Method& method) {
    MethodNodes nodes;
    const codec::CodecSpec& codec = method.codec;
    Method alone = method;
    alone.parts.clear();
    if (calibrated(alone)) {
      Node calibrate;
      calibrate.stage = "calibrate";
      calibrate.label = "calibrate " + method.name;
      calibrate.version = kCalibrateVersion;
      calibrate.fields = Json{{"key", config::to_json(codec.key.transforms)},
                              {"value", config::to_json(codec.value.transforms)}};
      if (codec.key.tap == codec::Tap::pre_rope) calibrate.fields["key_tap"] = "pre_rope";
      calibrate.inputs = {{"kv_samples", graph_.dump}};
      if (has_metric(codec.key) || has_metric(codec.value)) calibrate.inputs.emplace_back("kv_statistics", statistics(method));
      calibrate.code = run_calibrate;
      nodes.calibrate = add(std::move(calibrate));
      Node transform;
      transform.stage = "transform";
      transform.label = "transform " + method.name;
      transform.version = kTransformVersion;
      transform.fields = Json::object();
      transform.inputs = {{"kv_samples", graph_.dump}, {"transform", nodes.calibrate}};
      transform.code = run_transform;
      nodes.transform = add(std::move(transform));
    }
    Node codebook;
    codebook.stage = "codebook";
    codebook.label = "codebook " + method.name;
    codebook.version = kCodebookVersion;
    codebook.fields = Json::object();
    for (const auto& [name, side] : {std::pair<const char*, const codec::SideSpec*>{"key", &codec.key}, {"value", &codec.value}}) {
      if (!vector_coded(*side)) continue;
      Node books;
      books.stage = "books";
      books.label = fmt::format("codebook {}, {}s", method.name, name);
      books.version = kBooksVersion;
      books.fields = Json{{"side", name}, {"code", config::to_json(side->code)},
                          {"settings", config::to_json(method.codebook.train)}, {"simd", session_.simd()}};
      if (side->code.ksub() * 256 < codec::kSmallBookPoints) books.fields["small_book_points"] = codec::kSmallBookPoints;
      if (side->code.dsub == 1) books.fields["levels"] = "optimal";
      // An untransformed side is read from the samples themselves, so all methods share it.
      if (side->transforms.empty() && side->tap == codec::Tap::post_rope)
        books.inputs = {{"kv_samples", graph_.dump}};
      else
        books.inputs = {{"kv_transformed", nodes.transform}};
      if (weighted(*side) && side->code.weights == codec::Weights::fisher) {
        books.inputs.emplace_back("kv_gradients", gradients());
        if (side->tap == codec::Tap::pre_rope) books.fields["gradient_tap"] = "pre_rope";
      } else if (weighted(*side)) {
        books.inputs.emplace_back("kv_statistics", statistics(method));
      }
      books.code = run_books;
      codebook.inputs.emplace_back(name, add(std::move(books)));
    }
    if (!codebook.inputs.empty()) {
      codebook.code = run_codebook;
      nodes.codebook = nodes.kmeans = add(std::move(codebook));
    }
    return nodes;
  }

  // The dump's text through the model with coded keys and values.
  Node tune(const Method& method, const MethodNodes& nodes, const std::vector<MethodNodes>& parts) {
    Node node = dump();
    node.stage = "tune";
    node.label = "tune " + method.name;
    node.version = kTuneVersion;
    for (const char* key : {"probes", "tokens", "tap"}) node.fields.erase(key);
    const CodebookSpec& spec = method.codebook;
    node.fields["tune"] = Json{{"steps", spec.tune_steps}, {"rate", spec.tune_rate}, {"window", spec.tune_window}, {"seed", spec.train.seed},
                               {"recent", method.codec.window.recent}, {"sinks", method.codec.window.sinks}};
    take(node, method, nodes, parts);
    node.code = [method](StageContext& context) { return run_tune(context, method); };
    return node;
  }

  // The inputs of method_codec (stages/codec_input.h), and in the fields what says how they go together.
  void take(Node& node, const Method& method, const MethodNodes& nodes, const std::vector<MethodNodes>& parts) {
    const auto one = [&](const MethodNodes& of, const std::string& suffix) {
      if (of.calibrate >= 0) node.inputs.emplace_back("transform" + suffix, of.calibrate);
      if (of.codebook >= 0) node.inputs.emplace_back("codebook" + suffix, of.codebook);
    };
    one(nodes, "");
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const MethodPart& part = method.parts[i];
      node.fields["parts"].push_back({{"codec", config::to_json(part.method.codec)}, {"layers", part.layers}});
      if (part.share > 0) {
        node.fields["parts"].back()["share"] = part.share;
        node.inputs.emplace_back("sensitivity", add(sensitivity(method, nodes)));
      }
      one(parts[i], fmt::format("_{}", i));
    }
    if (nodes.tuned >= 0) node.inputs.emplace_back("tuned", nodes.tuned);
  }

  // Of the method around, at the calibration text's first tokens.
  Node sensitivity(const Method& method, const MethodNodes& nodes) {
    Node node = dump();
    node.stage = "sensitivity";
    node.label = "sensitivity of layers to " + method.name;
    node.version = kSensitivityVersion;
    for (const char* key : {"probes", "tokens", "tap"}) node.fields.erase(key);
    node.fields["codec"] = config::to_json(method.codec);
    if (nodes.calibrate >= 0) node.inputs.emplace_back("transform", nodes.calibrate);
    if (nodes.codebook >= 0) node.inputs.emplace_back("codebook", nodes.codebook);
    Method alone = method;
    alone.parts.clear();
    node.code = [alone](StageContext& context) { return run_sensitivity(context, alone); };
    return node;
  }

  Node evaluate(const Method& method, const TaskSpec& task, const MethodNodes& nodes, const std::vector<MethodNodes>& parts) {
    Node node;
    node.stage = "evaluate";
    node.label = fmt::format("evaluate {} on {}", method.name, task.name);
    node.version = kEvaluateVersion;
    Json settings = config::to_json(task);
    for (const char* key : {"files", "dir", "name"}) settings.erase(key);  // contents and meaning, never names
    node.fields = Json{{"codec", config::to_json(method.codec)}, {"task", settings},
                       {"task_version", session_.task_version(task)}, {"max_length", plan_.model.max_length},
                       {"compute", session_.compute_fields()}};
    if (plan_.model.chat.kind == config::Node::Kind::map) node.fields["chat"] = config::to_json(plan_.model.chat);
    if (task.task != "perplexity" && task.task != "needle" && session_.tasks().task(task.task).metric == "math")
      node.fields["comparison"] = eval::math::use_installed_checker() ? "symbolic" : "numeric";
    // On the CPU no byte depends on the batch; on a GPU rounding does.
    if (session_.device() == Device::cuda && task.task != "perplexity")
      node.fields["batch"] = plan_.experiment.generation.batch;
    node.files["model"] = session_.model_sha256();
    const std::vector<std::string> files = session_.task_files(task);
    for (std::size_t i = 0; i < files.size(); ++i)
      node.files[fmt::format("data_{}", i)] = session_.file_sha256(files[i]);
    take(node, method, nodes, parts);
    node.keep = {"predictions.jsonl"};
    node.code = [method, task](StageContext& context) { return run_evaluate(context, method, task); };
    return node;
  }

  Node profile() {
    Node node;
    node.stage = "profile";
    node.label = "profile";
    node.version = kProfileVersion;
    node.fields = Json{{"profile", config::to_json(plan_.experiment.profile)}, {"compute", session_.compute_fields()},
                       {"machine", session_.machine()}};
    node.code = run_profile;
    return node;
  }

  Session& session_;
  const Plan& plan_;
  Graph graph_;
};

}  // namespace

Graph build_graph(Session& session) { return Builder(session).build(); }

Runner::Runner(Session& session, const Graph& graph, artifact::Store& store, RunOptions options)
    : session_(session), graph_(graph), store_(store), options_(std::move(options)), done_(graph.nodes.size()) {}

StageKey Runner::key_of(int index, const std::vector<std::pair<std::string, const Artifact*>>& inputs) const {
  const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
  StageKey key;
  key.stage = node.stage;
  key.version = node.version;
  key.fields = node.fields;
  key.inputs = node.files;
  for (const auto& [name, artifact] : inputs) key.inputs[name] = artifact->content_hash();
  return key;
}

std::optional<StageKey> Runner::key(int index) {
  std::vector<std::optional<Artifact>> held;
  std::vector<std::pair<std::string, const Artifact*>> inputs;
  const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
  held.reserve(node.inputs.size());
  for (const auto& [name, input] : node.inputs) {
    held.push_back(find(input));
    if (!held.back()) return std::nullopt;
    inputs.emplace_back(name, &*held.back());
  }
  return key_of(index, inputs);
}

std::optional<Artifact> Runner::find(int index) {
  auto& done = done_[static_cast<std::size_t>(index)];
  if (done) return done;
  const auto wanted = key(index);
  if (!wanted) return std::nullopt;
  auto found = store_.find(*wanted);
  if (found) done = found;
  return found;
}

const Artifact& Runner::make(int index) {
  auto& done = done_[static_cast<std::size_t>(index)];
  const Node& node = graph_.nodes[static_cast<std::size_t>(index)];
  const bool force = options_.force == node.stage || (options_.force == "codebook" && node.stage == "books");
  if (done) return *done;
  std::vector<std::pair<std::string, const Artifact*>> inputs;
  // Content is addressed: if the artifact exists, what it was made from need not (a pruned store still hits).
  for (const auto& [name, input] : node.inputs) inputs.emplace_back(name, &make(input));
  const StageKey wanted = key_of(index, inputs);
  session_.progress().set_step(++seen_, static_cast<int>(graph_.nodes.size()));
  artifact::BeginOptions options;
  options.force = force;
  options.keep = node.keep;
  options.on_wait = [&] { session_.progress().note(fmt::format("{}: another process makes it; waiting", node.label)); };
  bool ran = false;
  Artifact result = store_.make(wanted, options, [&](artifact::Pending& pending) {
    ran = true;
    session_.current_label = node.label;
    StageContext context{session_, pending, node.fields, session_.progress(), inputs};
    return node.code(context);
  });
  if (ran) ++made_;
  done = std::move(result);
  return *done;
}

}  // namespace vi::pipeline
