// The stages, one file each.
#pragma once

#include "pipeline/graph.h"
#include "pipeline/stages/versions.h"

namespace vi::pipeline {

struct StageRow {
  std::string_view name, inputs, outputs, description;
};
// For `vecinfer list stages`.
inline constexpr StageRow kStages[] = {
    {"text", "model", "text.jsonl", "calibration text that the model writes itself (calibration: {source: model})"},
    {"dump", "model, text", "kv_samples.h5", "run the model over calibration text, keep keys, values, queries"},
    {"statistics", "model, text", "kv_statistics.h5", "how much an error of each key and value would move the output (if a method asks)"},
    {"gradients", "model, text", "kv_gradients.h5", "gradient of the log-loss by each key and value (if a method asks)"},
    {"calibrate", "kv_samples.h5, kv_statistics.h5", "transform.h5", "smooth scales and other statistics of the transforms"},
    {"transform", "kv_samples.h5, transform.h5", "kv_transformed.h5", "transformed samples, outliers before and after"},
    {"codebook", "kv_transformed.h5, kv_statistics.h5", "codebook.h5", "k-means codebooks"},
    {"tune", "model, text, transform.h5, codebook.h5", "codebook.h5, tune.json", "centroids tuned end to end (if a method asks)"},
    {"sensitivity", "model, text, transform.h5, codebook.h5", "sensitivity.json", "how much each layer minds its codes (if a method deals layers by it)"},
    {"evaluate", "model, transform.h5, codebook.h5, task", "predictions.jsonl, scores.jsonl, metrics.json", "one method on one task"},
    {"profile", "codecs, shapes", "timings.jsonl", "attention time and cache bytes"},
    {"report", "all of them", "report.html, table.txt", "the table and the page"}};

std::vector<std::string> run_text(StageContext& context);
std::vector<std::string> run_dump(StageContext& context);
std::vector<std::string> run_statistics(StageContext& context);
std::vector<std::string> run_gradients(StageContext& context);
std::vector<std::string> run_calibrate(StageContext& context);
std::vector<std::string> run_transform(StageContext& context);
std::vector<std::string> run_books(StageContext& context);
std::vector<std::string> run_codebook(StageContext& context);
// The method comes from the plan.
std::vector<std::string> run_tune(StageContext& context, const Method& method);
std::vector<std::string> run_sensitivity(StageContext& context, const Method& method);
// The method and task of an evaluate node come from the plan; the artifacts through the inputs.
std::vector<std::string> run_evaluate(StageContext& context, const Method& method, const TaskSpec& task);
std::vector<std::string> run_profile(StageContext& context);
std::vector<std::string> run_report(StageContext& context);
Node report_node(Session& session, const Graph& graph);

}  // namespace vi::pipeline
