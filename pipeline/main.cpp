// The command line. The only place that prints errors and maps them to exit codes:
// 0 ok, 1 failure, 2 bad config or arguments, 3 bad artifact or input file, 4 GPU, 130 interrupted.
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "core/artifact/foreign.h"
#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "pipeline/commands.h"

namespace {

int dispatch(int argc, char** argv) {
  using namespace vi::pipeline;
  CLI::App app{"vecinfer: KV-cache quantisation, evaluated"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "vecinfer 0.1.0");
  RunArguments run;
  const auto common = [&](CLI::App* command, bool yaml = true, bool overrides = true) {
    if (yaml) command->add_option("experiment", run.yaml, "an experiment's YAML file")->required();
    command->add_option("--set", run.sets, "key.path=value, over the YAML; may be repeated")->take_all();
    if (overrides) {
      command->add_option("--model", run.model, "instead of the YAML's: a name, a GGUF file or a Hugging Face folder");
      command->add_option("--method", run.methods, "instead of the YAML's: names, \"a,b\"");
      command->add_option("--task", run.tasks, "instead of the YAML's: names or groups of `list tasks`, \"a,b\"");
      command->add_option("--data", run.data, "folder of the benchmarks' files, instead of the YAML's");
    }
    command->add_option("--limit", run.limit, "records or windows a task at most")->check(CLI::NonNegativeNumber);
    command->add_option("--batch", run.batch, "prompts answered side by side, instead of the YAML's")->check(CLI::Range(1, 1024));
    command->add_option("--store", run.store, "folder of artifacts (default: results/store of the project)");
    command->add_option("--device", run.device, "cpu | cuda")->check(CLI::IsMember({"cpu", "cuda"}));
  };
  int code = 0;

  auto* run_app = app.add_subcommand("run", "run an experiment: all stages, the table, the report");
  common(run_app);
  run_app->add_option("--force", run.force, "make this stage again though it is there");
  run_app->callback([&] { code = run_command(run); });

  auto* stage_app = app.add_subcommand("stage", "one stage (its inputs are made if missing)");
  stage_app->add_option("name", run.stage, "dump, calibrate, transform, codebook, evaluate, profile, report")->required();
  common(stage_app);
  stage_app->add_option("--force", run.force, "make this stage again though it is there");
  stage_app->callback([&] { code = run_command(run); });

  auto* status_app = app.add_subcommand("status", "hit or miss of each stage, and the first setting that differs");
  common(status_app);
  status_app->callback([&] { code = status_command(run); });

  SweepArguments sweep;
  auto* sweep_app = app.add_subcommand("sweep", "the grid under `sweep:`; runs what is missing of it");
  common(sweep_app);
  sweep_app->add_option("--launcher", sweep.launcher, "local | slurm")->check(CLI::IsMember({"local", "slurm"}));
  sweep_app->add_option("--jobs", sweep.jobs, "points side by side at most")->check(CLI::PositiveNumber);
  sweep_app->add_option("--memory", sweep.memory, "16G, 800M: of all local processes together; of one Slurm job");
  sweep_app->add_option("--slurm", sweep.slurm, "an option for sbatch, e.g. --slurm=--partition=gpu; may be repeated")->take_all();
  sweep_app->add_option("--point", sweep.point, "run this one point here (what the launchers start)");
  sweep_app->callback([&] { code = sweep_command(run, sweep); });

  std::string what;
  auto* list_app = app.add_subcommand("list", "methods | models | tasks | stages | keys");
  list_app->add_option("what", what, "methods | models | tasks | stages | keys");
  list_app->callback([&] { code = list_command(what); });

  auto* verify_app = app.add_subcommand("verify", "hash every file of the store again");
  verify_app->add_option("--store", run.store, "folder of artifacts");
  verify_app->callback([&] { code = verify_command(run.store); });

  std::vector<std::string> yamls;
  auto* report_app = app.add_subcommand("report", "the report of experiments that have run");
  report_app->add_option("experiments", yamls, "YAML files")->required();
  common(report_app, false);
  report_app->callback([&] { code = report_command(yamls, run); });

  std::string model, text_file, ids;
  bool chat = false, decode = false;
  auto* tokenize_app = app.add_subcommand("tokenize", "text to token ids, or back with --decode");
  tokenize_app->add_option("--model", model, "a name, a GGUF file or a Hugging Face folder")->required();
  tokenize_app->add_option("--text-file", text_file, "UTF-8 text; - for standard input");
  tokenize_app->add_flag("--chat", chat, "the text is a user's message: apply the chat template");
  tokenize_app->add_flag("--decode", decode, "from ids to text");
  tokenize_app->add_option("--ids", ids, "ids to decode, \"1,2,3\"; default: the JSON of --text-file");
  tokenize_app->callback([&] { code = tokenize_command(model, text_file, chat, decode, ids); });

  int top = 5;
  auto* logits_app = app.add_subcommand("logits", "logits of the next token, full precision");
  logits_app->add_option("--model", model, "a name, a GGUF file or a Hugging Face folder")->required();
  logits_app->add_option("--ids", ids, "token ids, \"1,2,3\"")->required();
  logits_app->add_option("--top", top, "how many")->check(CLI::PositiveNumber);
  logits_app->add_option("--device", run.device, "cpu | cuda")->check(CLI::IsMember({"cpu", "cuda"}));
  logits_app->callback([&] { code = logits_command(model, ids, top, run.device); });

  std::vector<std::string> results;
  std::string paper_model;
  bool honesty = false;
  auto* compare_app = app.add_subcommand("compare", "results beside the paper's Tables 2 to 8");
  compare_app->add_flag("--honesty", honesty, "the README's table instead: every measured method, from results/reference (Markdown)");
  compare_app->add_option("--results", results, "results.jsonl files (default: results/results.jsonl)");
  compare_app->add_option("--model", paper_model, "one of the paper's models; default: all");
  compare_app->callback([&] { code = honesty ? honesty_command() : compare_command(results, paper_model); });

  std::string figure, figure_cases = "quick";
  auto* figure_app = app.add_subcommand("figure", "a figure of the paper with timings, beside ours; measured where there is a GPU");
  figure_app->add_option("figure", figure, "experiments/paper/fig5.yaml to fig9.yaml")->required();
  figure_app->add_option("--cases", figure_cases, "of the bench on a GPU: all | quick");
  figure_app->callback([&] { code = figure_command(figure, figure_cases); });

  DataArguments data;
  auto* data_app = app.add_subcommand("data", "download the public sets of data/sources.yaml, or take them from a folder");
  data_app->add_option("names", data.names, "sets of --list; none: all of them");
  data_app->add_flag("--list", data.list, "say what there is and what is missing");
  data_app->add_option("--data", data.local, "a folder of local files instead of the network");
  data_app->add_option("--to", data.to, "the data folder (default: data/ of the project)");
  data_app->add_option("--sources", data.sources, "the list (default: data/sources.yaml of the project)");
  data_app->add_option("--tries", data.tries, "connections that bring nothing, at most")->check(CLI::PositiveNumber);
  data_app->add_option("--back-off", data.back_off, "seconds before the second try; doubles")->check(CLI::NonNegativeNumber);
  data_app->callback([&] { code = data_command(data); });

  std::string task, cases;
  auto* score_app = app.add_subcommand("score", "score predictions without the model");
  std::vector<std::string> predictions;
  auto* task_option = score_app->add_option("--task", task, "a name of `list tasks`, or math");
  auto* cases_option = score_app->add_option("--cases", cases, "JSONL file of {prediction, answers, all_classes} or {prediction, answer}");
  score_app->add_option("--predictions", predictions, "predictions.jsonl files of evaluate, or their folders")
      ->excludes(task_option)->excludes(cases_option);
  task_option->needs(cases_option);
  cases_option->needs(task_option);
  score_app->callback([&] { code = score_command(task, cases, predictions); });

  std::string bench, json_file, cases_set = "all";
  auto* bench_app = app.add_subcommand("bench", "timings with the fair baseline in the same run");
  bench_app->add_option("what", bench, "kernels | kmeans | e2e | breakdown (the last two on a GPU)")->required()->check(CLI::IsMember({"kernels", "e2e", "breakdown", "kmeans"}));
  bench_app->add_option("--device", run.device, "cpu | cuda")->check(CLI::IsMember({"cpu", "cuda"}));
  bench_app->add_option("--cases", cases_set, "on a GPU: all | quick, of kernels also: paper, of e2e: long | prefill");
  bench_app->add_option("--json", json_file, "also write the rows here, one JSON object a line");
  bench_app->callback([&] { code = bench_command(bench, run.device, cases_set, json_file); });

  auto* distribution_app = app.add_subcommand("distribution", "how hard a model's keys and values are to quantise: outliers, tails, rank");
  common(distribution_app);
  distribution_app->add_option("--json", json_file, "also write a line for each layer, head, side and view");
  distribution_app->callback([&] { code = distribution_command(run, json_file); });

  std::string file;
  auto* export_app = app.add_subcommand("export", "transform and codebook of a method as one HDF5 file");
  common(export_app, true, false);
  export_app->add_option("--method", run.methods, "which method of the experiment (default: its only one that has codebooks)");
  export_app->add_option("file", file, "the file to write")->required();
  export_app->callback([&] { code = export_command(run, run.methods, file); });

  auto* import_app = app.add_subcommand("import", "check such a file and put its content where `export` had it");
  common(import_app, true, false);
  import_app->add_option("file", file, "the file to read")->required();
  import_app->callback([&] { code = import_command(run, file); });

  std::string method, tensors;
  std::vector<std::string> method_sets;
  auto* reconstruct_app = app.add_subcommand("reconstruct", "a method on one layer's keys and values: what a cache would give back of them");
  reconstruct_app->add_option("method", method, "a name of `list methods`, or a YAML file")->required();
  reconstruct_app->add_option("input", tensors, "HDF5: key, value [n_kv_heads, tokens, head_dim] in f32 (docs/artifacts.md, kv_tensors)")->required();
  reconstruct_app->add_option("output", file, "the HDF5 file to write: key, value, and what the method found")->required();
  reconstruct_app->add_option("--set", method_sets, "codec.KEY=value or codebook.KEY=value, over the method's YAML; may be repeated")->take_all();
  reconstruct_app->callback([&] { code = reconstruct_command(method, tensors, file, method_sets); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : 2;
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  // The child half of reading foreign HDF5 files (core/artifact/foreign.h): before any thread exists.
  if (argc == 5 && std::string_view(argv[1]) == "__import") return vi::artifact::foreign_child(argv[2], argv[3], argv[4]);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  vi::install_interrupt_handlers();
  const auto complain = [](const char* what, int code) {
    std::fprintf(stderr, "vecinfer: %s\n", what);
    return code;
  };
  try {
    return dispatch(argc, argv);
  } catch (const vi::Interrupted& error) {
    return complain(error.what(), 130);
  } catch (const vi::ConfigError& error) {
    return complain(error.what(), 2);
  } catch (const vi::ContractError& error) {
    return complain(error.what(), 3);
  } catch (const vi::CudaError& error) {
    return complain(error.what(), 4);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", 1);
  } catch (const std::exception& error) {
    std::string text = error.what();
    if (const auto end = text.find('\n'); end != std::string::npos) text.resize(end);  // one line, also from libtorch
    return complain(text.c_str(), 1);
  }
}
