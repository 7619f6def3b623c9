// report: metrics of all evaluate artifacts (and outliers, timings) -> rows.jsonl, details.jsonl, table.txt, report.html.
#include <algorithm>
#include <cmath>

#include "core/common/file.h"
#include "pipeline/paths.h"
#include "pipeline/report/page.h"
#include "pipeline/report/paper.h"
#include "pipeline/session.h"
#include "pipeline/stages/samples.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

// The line of results.jsonl of one evaluate artifact (schema: docs/artifacts.md).
Json result_line(const Json& fields, const Json& method, const Json& task, const Json& metrics,
                 const artifact::Artifact& evaluated) {
  Json line;
  line["experiment"] = fields.at("experiment");
  line["model"] = fields.at("model");
  line["method"] = method.at("name");
  const Json& bits = metrics.at("bits");
  line["key_bits"] = bits.at("key_bits");
  line["value_bits"] = bits.at("value_bits");
  line["bits_total"] = bits.at("bits_total");
  line["bits_at"] = bits.at("bits_at");
  line["codebook_bytes"] = bits.at("codebook_bytes");
  line["mode"] = metrics.at("mode");
  line["task"] = task.at("name");
  for (const char* key : {"task_version", "metric", "score", "n", "stderr"}) line[key] = metrics.at(key);
  line["seed"] = fields.at("seed");
  line["config_sha256"] = evaluated.manifest().stage.key();
  line["git"] = fields.at("git");
  line["device"] = fields.at("device");
  // Beyond the schema: the protocol in full, and what a reader must know of the row.
  line["protocol"] = metrics.at("protocol");
  line["fidelity"] = method.at("fidelity");
  if (metrics.at("mode") == "generate") line["batch"] = metrics.contains("batch") ? metrics.at("batch") : fields.at("batch");
  line["leak"] = fields.at("leak");
  if (metrics.contains("layers")) line["layers"] = metrics.at("layers");
  if (metrics.contains("skipped")) line["skipped"] = metrics.at("skipped");
  if (metrics.contains("by_length")) line["by_length"] = metrics.at("by_length");
  line["codebook_marked"] = bits.at("codebook_bytes").get<double>() > 0.05 * fields.at("weights_bytes").get<double>();
  return line;
}

// The unweighted mean over a group's tasks, as the papers report it. Tasks are independent.
Json group_line(const Json& group, const std::vector<Json>& lines) {
  Json mean;
  double score = 0, square = 0;
  bool known = true;
  for (const Json& member : group.at("members"))
    for (const Json& line : lines) {
      if (line.at("task") != member) continue;
      if (mean.is_null()) mean = line;
      score += line.at("score").get<double>();
      known = known && line.at("stderr").is_number();
      if (known) square += std::pow(line.at("stderr").get<double>(), 2);
    }
  const auto n = static_cast<double>(group.at("members").size());
  mean["task"] = group.at("name");
  mean["task_version"] = group.at("version");
  mean["metric"] = "mean";
  mean["score"] = score / n;
  mean["n"] = group.at("members").size();
  mean["stderr"] = known ? Json(std::sqrt(square) / n) : Json(nullptr);
  mean.erase("by_length");
  return mean;
}

// The score of each window or answer, in their order: what a bootstrap draws from. Perplexity as mean log-loss.
std::vector<double> samples_of(const artifact::Artifact& evaluated) {
  std::vector<double> samples;
  for_each_json_line(evaluated.checked("scores.jsonl"), [&](std::int64_t, const Json& line) {
    samples.push_back(line.contains("perplexity") ? std::log(line.at("perplexity").get<double>()) : line.at("score").get<double>());
  });
  return samples;
}

Json outliers_of(const artifact::Artifact& transformed, const Json& steps, int layer) {
  const artifact::H5File file = transformed.open_h5("kv_transformed.h5");
  const auto shape = file.info("/outliers/key/before").shape;
  const auto layers = static_cast<int>(shape[0]);
  layer = layer < 0 ? layers / 2 : std::min(layer, layers - 1);
  Json out{{"layer", layer}, {"stages", Json::array()}};
  for (std::size_t s = 0; s <= steps.size(); ++s) {
    const std::string name = s == 0 ? "before" : fmt::format("after_{}", s);
    std::vector<float> values(static_cast<std::size_t>(shape[1] * shape[2]));
    file.read_slab<float>("/outliers/key/" + name, {{layer, 0, 0}, {1, shape[1], shape[2]}}, values);
    std::string title = "as the model makes them";
    for (std::size_t i = 0; i < s; ++i)
      title = (i ? title + ", " : std::string("after ")) + steps[i].at("kind").get<std::string>();
    out["stages"].push_back({{"name", title}, {"absmax", values}});
  }
  return out;
}

// How far a channel's largest magnitude stands out, before and after each transform.
report::Table outlier_table(const Json& outliers) {
  report::Table table;
  table.header = {fmt::format("key channels of layer {}", outliers.at("layer").get<int>()), "largest", "median", "largest / median"};
  for (const Json& stage : outliers.at("stages")) {
    auto values = stage.at("absmax").get<std::vector<double>>();
    std::sort(values.begin(), values.end());
    const double most = values.back(), middle = values[values.size() / 2];
    table.rows.push_back({stage.at("name"), fmt::format("{:.2f}", most), fmt::format("{:.2f}", middle), middle > 0 ? fmt::format("{:.1f}", most / middle) : "-"});
  }
  return table;
}

}  // namespace

std::vector<std::string> run_report(StageContext& context) {
  const Json& fields = context.fields;
  report::Content content;
  content.experiment = fields.at("experiment");
  content.description = fields.at("description");
  content.model = fields.at("model");
  content.note = fields.at("note");
  content.git = fields.at("git");
  content.device = fields.at("device");
  content.memory = Json::array();
  std::string details;
  for (std::size_t m = 0; m < fields.at("methods").size(); ++m) {
    const Json& method = fields.at("methods")[m];
    content.fidelity[method.at("name")] = method.at("fidelity");
    for (std::size_t t = 0; t < fields.at("tasks").size(); ++t) {
      const Json& task = fields.at("tasks")[t];
      const artifact::Artifact& evaluated = context.input(fmt::format("evaluate_{}_{}", m, t));
      const auto path = evaluated.checked("metrics.json");
      const Json metrics = parse_json(read_file(path), path.string());
      content.results.push_back(result_line(fields, method, task, metrics, evaluated));
      const std::string key = method.at("name").get<std::string>() + "\t" + task.at("name").get<std::string>();
      content.metrics[key] = metrics;
      content.samples[key] = samples_of(evaluated);
      details += Json{{"method", method.at("name")}, {"task", task.at("name")}, {"metrics", metrics}, {"samples", content.samples[key]}}.dump() + "\n";
      if (t == 0) content.memory.push_back({{"method", method.at("name")}, {"points", metrics.at("memory")}});
    }
    const auto n_tasks = static_cast<std::ptrdiff_t>(fields.at("tasks").size());
    const std::vector<Json> own(content.results.end() - n_tasks, content.results.end());
    for (const Json& group : fields.at("groups")) content.results.push_back(group_line(group, own));
  }
  if (const auto* transformed = context.find_input("outliers"))
    content.outliers = outliers_of(*transformed, fields.at("outlier_steps"), fields.at("layer"));
  if (const auto* profile = context.find_input("profile"))
    for_each_json_line(profile->checked("timings.jsonl"),
                       [&](std::int64_t, const Json& line) { content.timings.push_back(line); });
  const auto paper = report::read_paper(project_root() / "results" / "reference" / "paper");
  content.comparisons = report::comparison_texts(paper, content.results, content.model, fields.value("tables", std::vector<int>{}));
  std::string rows;
  for (const Json& line : content.results) rows += line.dump() + "\n";
  write_file_atomic(context.pending.path("rows.jsonl"), rows);
  write_file_atomic(context.pending.path("details.jsonl"), details);
  std::string text = report::result_table(content).text();
  if (content.outliers.is_object()) text += "\n" + outlier_table(content.outliers).text();
  if (!content.note.empty()) text += "\n" + content.note + "\n";
  for (const std::string& comparison : content.comparisons) text += "\n" + comparison;
  write_file_atomic(context.pending.path("table.txt"), text);
  write_file_atomic(context.pending.path("report.html"), report::html_page(content));
  return {"rows.jsonl", "details.jsonl", "table.txt", "report.html"};
}

Node report_node(Session& session, const Graph& graph) {
  const Plan& plan = session.plan();
  Node node;
  node.stage = "report";
  node.label = "report " + plan.experiment.experiment;
  node.version = kReportVersion;
  Json methods = Json::array(), tasks = Json::array();
  for (const Method& method : plan.methods) methods.push_back({{"name", method.name}, {"fidelity", method.fidelity}});
  for (const TaskSpec& task : plan.experiment.evaluate) tasks.push_back({{"name", task.name}});
  Json groups = Json::array();
  for (const TaskGroupRow& group : plan.groups)
    groups.push_back({{"name", group.name}, {"version", group.version}, {"members", group.members}});
  node.fields = Json{{"experiment", plan.experiment.experiment}, {"description", plan.experiment.description},
                     {"model", plan.model.name}, {"note", plan.experiment.report.note}, {"methods", methods},
                     {"tasks", tasks}, {"groups", groups}, {"layer", plan.experiment.report.layer}, {"git", session.git()},
                     {"device", session.device_name()}, {"seed", plan.experiment.calibration.seed},
                     {"leak", session.leak()}, {"batch", plan.experiment.generation.batch}, {"weights_bytes", session.weights_bytes()},
                     {"tables", plan.experiment.report.tables}};
  for (std::size_t m = 0; m < plan.methods.size(); ++m)
    for (std::size_t t = 0; t < plan.experiment.evaluate.size(); ++t)
      node.inputs.emplace_back(fmt::format("evaluate_{}_{}", m, t), graph.methods[m].evaluate[t]);
  // The outlier plots show the method with the longest list of key transforms, the last of them.
  std::size_t best = plan.methods.size();
  for (std::size_t m = 0; m < plan.methods.size(); ++m)
    if (graph.methods[m].transform >= 0 && !plan.methods[m].codec.key.transforms.empty() &&
        (best == plan.methods.size() ||
         plan.methods[m].codec.key.transforms.size() >= plan.methods[best].codec.key.transforms.size()))
      best = m;
  if (best < plan.methods.size()) {
    node.inputs.emplace_back("outliers", graph.methods[best].transform);
    node.fields["outlier_steps"] = config::to_json(plan.methods[best].codec.key.transforms);
  }
  if (graph.profile >= 0) node.inputs.emplace_back("profile", graph.profile);
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(project_root() / "results" / "reference" / "paper", code))
    if (entry.path().extension() == ".jsonl")
      node.files["paper_" + entry.path().stem().string()] = session.file_sha256(entry.path().string());
  node.code = run_report;
  return node;
}

}  // namespace vi::pipeline
