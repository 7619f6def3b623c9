// What an experiment's task entries mean: groups are spread into their tasks, the command line's
// --model, --method, --task and --data replace parts of the YAML.
#pragma once

#include <string>
#include <vector>

#include "eval/retrieval/needle.h"
#include "pipeline/experiment.h"

namespace vi::pipeline {

// Applied to the document before it is read. Lists may be written "a,b c".
struct Overrides {
  std::string model;
  std::string methods;  // names under experiments/methods, or of rows of the YAML, which are kept; commas between, or spaces where no name has any
  std::string tasks;    // names or groups; bare names are of the suite of the YAML's first benchmark
  std::string data;     // a folder for all benchmarks and for texts that lie in it
};
void apply_overrides(config::Node& root, const Overrides& overrides);

// A group becomes one entry a task, each with the group's settings; `nodes` (where each entry was
// written) grows with it. ConfigError for an unknown task.
void expand_groups(std::vector<TaskSpec>& tasks, std::vector<const config::Node*>& nodes, std::vector<TaskGroupRow>& groups);

// The rows of `report: means`; a group with a task that `tasks` has not gives none. ConfigError for an unknown group.
void add_means(const std::vector<std::string>& means, const config::Mark& mark, const std::vector<TaskSpec>& tasks, std::vector<TaskGroupRow>& groups);

// The generator's settings of a needle task: `needle` under `kind`. ConfigError.
eval::NeedleSpec needle_spec(const TaskSpec& task);

}  // namespace vi::pipeline
