// The commands of the command line, one function each. They return the exit code and throw vi::Error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vi::pipeline {

struct RunArguments {
  std::string yaml;
  std::vector<std::string> sets;
  int limit = 0;              // 0: none
  int batch = 0;              // 0: the YAML's
  std::string store;          // "": <root>/results/store
  std::string device = "cpu";
  std::string force;
  std::string stage;          // `stage NAME`: stop there
  std::string model, methods, tasks, data;  // over the YAML (pipeline/tasks.h)
  std::string point_file;     // a point of a sweep: rows and details go there, nothing is printed or published
};

// Where artifacts go, and where results.jsonl and runs/ lie: beside the default store, inside one that was chosen.
std::filesystem::path store_folder(const RunArguments& arguments);
std::filesystem::path results_folder(const RunArguments& arguments);

// The YAML with everything the arguments change. ConfigError.
struct Plan;
Plan plan_of(const RunArguments& arguments);
enum class Device;
Device device_of(const RunArguments& arguments);

int run_command(const RunArguments& arguments);
int status_command(const RunArguments& arguments);
int report_command(const std::vector<std::string>& yamls, const RunArguments& arguments);
struct DataArguments {
  std::vector<std::string> names;  // none: all sets
  std::string sources, to, local;  // "": data/sources.yaml, data/, the network
  bool list = false;
  int tries = 5;
  double back_off = 1.0;           // seconds before the second try
};

int verify_command(const std::string& store);
int list_command(const std::string& what);
int export_command(const RunArguments& arguments, const std::string& method, const std::string& file);
int distribution_command(const RunArguments& arguments, const std::string& json_file);
// A method on one layer's keys and values (docs/artifacts.md, kv_tensors): what a cache would give back of them.
int reconstruct_command(const std::string& method, const std::string& input, const std::string& output, const std::vector<std::string>& sets);
int import_command(const RunArguments& arguments, const std::string& file);
struct SweepArguments {
  std::string launcher = "local";   // local | slurm
  int jobs = 0;                     // side by side at most; 0: one, or with a budget as many as cores
  std::string memory;               // "16G": of all local processes together, of one Slurm job
  std::vector<std::string> slurm;   // more options of sbatch
  std::string point;                // run this point here (what the launchers start)
};
int sweep_command(const RunArguments& arguments, const SweepArguments& sweep);

int tokenize_command(const std::string& model, const std::string& text_file, bool chat, bool decode, const std::string& ids);
int logits_command(const std::string& model, const std::string& ids, int top, const std::string& device);
int honesty_command();
int compare_command(const std::vector<std::string>& results, const std::string& model);
int figure_command(const std::string& yaml, const std::string& cases);
int data_command(const DataArguments& arguments);
int score_command(const std::string& task, const std::string& cases, const std::vector<std::string>& predictions);
int bench_command(const std::string& what, const std::string& device, const std::string& cases, const std::string& json_file);

}  // namespace vi::pipeline
