// list: every registry with one line each.
#include <cstdio>

#include "core/codec/method.h"
#include "eval/scorers/registry.h"
#include "eval/benchmark/task.h"
#include "pipeline/commands.h"
#include "pipeline/paths.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

void print_row(std::string_view name, std::string_view text) {
  std::printf("  %-28.*s %.*s\n", static_cast<int>(name.size()), name.data(), static_cast<int>(text.size()), text.data());
}

// The reference of an experiment's keys, from the same visit() that reads them.
struct KeyPrinter {
  std::string prefix;
  template <class T>
  void operator()(std::string_view key, T& field, std::string_view doc) {
    print_row(prefix + std::string(key), doc);
    if constexpr (requires { field.visit(*this); }) {
      KeyPrinter inner{prefix + std::string(key) + "."};
      field.visit(inner);
    } else if constexpr (requires { typename T::value_type; field.front().visit(*this); }) {
      typename T::value_type one;
      KeyPrinter inner{prefix + std::string(key) + "[]."};
      one.visit(inner);
    }
  }
};

}  // namespace

int list_command(const std::string& what) {
  const std::vector<std::string> known{"methods", "models", "tasks", "stages", "metrics", "keys"};
  if (!what.empty() && std::find(known.begin(), known.end(), what) == known.end())
    fail<ConfigError>("list {}: expected methods, models, tasks, stages, metrics or keys", what);
  const auto wanted = [&](const char* name) { return what.empty() ? std::string_view(name) != "keys" : what == name; };
  const auto folder = project_root() / "experiments";
  if (wanted("stages")) {
    std::puts("stages");
    for (const StageRow& row : kStages) print_row(row.name, row.description);
  }
  if (wanted("methods")) {
    std::puts("methods (experiments/methods)");
    for (const std::string& name : codec::method_names(folder / "methods")) {
      const codec::MethodSpec method = codec::find_method(folder / "methods", name);
      print_row(name, fmt::format("{} [{}]", method.description, config::to_string(method.fidelity)));
    }
  }
  if (wanted("models")) {
    std::puts("models (experiments/models)");
    for (const std::string& name : named_files("models")) {
      ModelSpec spec;
      config::read(config::load_yaml(resolve_named(name, "models", {}), {folder}), spec);
      print_row(name, spec.description);
    }
  }
  if (wanted("tasks")) {
    std::puts("tasks");
    print_row("perplexity", "perplexity of text files, in modes all, window and stream");
    print_row("needle", "passkey and needle retrieval at chosen lengths and depths");
    const eval::TaskLibrary library(project_root() / "eval" / "tasks");
    for (const std::string& name : library.task_names()) print_row(name, library.task(name).description);
    for (const std::string& name : library.group_names()) print_row(name, "group: " + library.group(name).description);
  }
  if (wanted("metrics")) {
    std::puts("metrics");
    for (const eval::Metric& metric : eval::metrics()) print_row(metric.name, metric.what);
  }
  if (wanted("keys")) {
    std::puts("keys of an experiment's YAML");
    Experiment experiment;
    KeyPrinter printer;
    experiment.visit(printer);
    std::puts("keys of a method's codec (experiments/methods, methods[].codec)");
    codec::CodecSpec codec;
    KeyPrinter inner{"codec."};
    codec.visit(inner);
  }
  return 0;
}

}  // namespace vi::pipeline
