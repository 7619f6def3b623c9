// distribution: how hard a model's keys and values are to quantise, head by head, as they are and after the
// transforms of a method (docs/measured.md reads the result).
#include <omp.h>

#include <cstdio>
#include <fstream>

#include "core/common/interrupt.h"
#include "core/transform/calibrate.h"
#include "core/transform/distribution.h"
#include "pipeline/commands.h"
#include "pipeline/graph.h"
#include "pipeline/session.h"
#include "pipeline/stages/samples.h"
#include "pipeline/tasks.h"

namespace vi::pipeline {
namespace {

constexpr std::size_t kRows = 8192;  // of a head, evenly drawn: enough for four digits

Json to_line(const transform::Distribution& d) {
  return {{"max_to_median", d.max_to_median}, {"top_energy", d.top_energy}, {"mean_share", d.mean_share}, {"kurtosis", d.kurtosis},
          {"rank", d.rank}, {"channel_gain_db", d.channel_gain}, {"principal_gain_db", d.principal_gain}};
}

struct View {
  const char* name;
  std::vector<transform::TransformSpec> steps;
};

}  // namespace

int distribution_command(const RunArguments& arguments, const std::string& json_file) {
  TerminalProgress progress;
  Session session(plan_of(arguments), device_of(arguments), progress);
  const Graph graph = build_graph(session);
  if (graph.dump < 0) fail<ConfigError>("{}: no method of this experiment needs calibration samples", arguments.yaml);
  artifact::Store store(store_folder(arguments));
  Runner runner(session, graph, store, {});
  const SampleFile samples(runner.make(graph.dump).open_h5("kv_samples.h5"));

  std::ofstream out;
  if (!json_file.empty()) {
    out.open(json_file);
    if (!out) fail<IoError>("{}: cannot be written", json_file);
  }
  using transform::TransformKind;
  const auto step = [](TransformKind kind) {
    transform::TransformSpec spec;
    spec.kind = kind;
    return spec;
  };
  const std::vector<View> views{{"as it is", {}}, {"Hadamard", {step(TransformKind::hadamard)}},
                                {"smooth, Hadamard", {step(TransformKind::smooth), step(TransformKind::hadamard)}}};
  std::printf("%s: means over %d layers x %d KV heads, %lld tokens\n", session.plan().model.name.c_str(), samples.n_layers,
              samples.n_kv_heads, static_cast<long long>(samples.n_tokens));
  std::printf("%-6s %-18s %12s %12s %11s %9s %7s %14s %16s\n", "side", "view", "max/median", "top energy", "mean share", "kurtosis",
              "rank", "channels (dB)", "principal (dB)");
  for (const char* side : {"key", "value"}) {
    const int heads = samples.n_layers * samples.n_kv_heads;
    std::vector<std::vector<transform::Distribution>> all(views.size(), std::vector<transform::Distribution>(static_cast<std::size_t>(heads)));
    progress.begin(fmt::format("distribution of {}s", side), heads);
    const int batch = std::max(1, omp_get_max_threads());
    for (int first = 0; first < heads; first += batch) {
      check_interrupt();
      const int end = std::min(heads, first + batch);
      std::vector<std::vector<float>> rows;  // HDF5 is read by one thread
      for (int i = first; i < end; ++i) rows.push_back(samples.rows(i / samples.n_kv_heads, side, i % samples.n_kv_heads));
      const auto d = static_cast<std::size_t>(samples.head_dim);
#pragma omp parallel for schedule(dynamic, 1)
      for (int i = first; i < end; ++i) {
        std::vector<float>& full = rows[static_cast<std::size_t>(i - first)];
        const std::size_t n = full.size() / d, keep = std::min(n, kRows);
        for (std::size_t r = 0; r < keep; ++r)
          std::copy_n(full.begin() + static_cast<std::ptrdiff_t>(r * n / keep * d), d, full.begin() + static_cast<std::ptrdiff_t>(r * d));
        for (std::size_t v = 0; v < views.size(); ++v) {
          std::vector<float> seen(full.begin(), full.begin() + static_cast<std::ptrdiff_t>(keep * d));
          if (!views[v].steps.empty())
            transform::calibrate(views[v].steps, seen.data(), keep, samples.head_dim).forward(seen.data(), keep);
          all[v][static_cast<std::size_t>(i)] = transform::distribution(seen.data(), keep, samples.head_dim);
        }
      }
      progress.advance(end - first);
    }
    progress.end();
    for (std::size_t v = 0; v < views.size(); ++v) {
      Json mean = to_line({});
      for (int i = 0; i < heads; ++i) {
        const Json line = to_line(all[v][static_cast<std::size_t>(i)]);
        for (auto& [name, value] : mean.items()) value = value.get<double>() + line.at(name).get<double>() / heads;
        if (out.is_open()) {
          Json row{{"model", session.plan().model.name}, {"side", side}, {"view", views[v].name}, {"layer", i / samples.n_kv_heads},
                   {"head", i % samples.n_kv_heads}, {"tokens", samples.n_tokens}, {"git", session.git()}};
          row.update(line);
          out << row.dump() << '\n';
        }
      }
      std::printf("%-6s %-18s %12.2f %12.3f %11.3f %9.2f %7.1f %14.2f %16.2f\n", side, views[v].name, mean["max_to_median"].get<double>(),
                  mean["top_energy"].get<double>(), mean["mean_share"].get<double>(), mean["kurtosis"].get<double>(), mean["rank"].get<double>(),
                  mean["channel_gain_db"].get<double>(), mean["principal_gain_db"].get<double>());
    }
  }
  if (out.is_open() && !out.flush()) fail<IoError>("{}: could not be written", json_file);
  return 0;
}

}  // namespace vi::pipeline
