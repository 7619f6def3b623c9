// The stages that a plan needs, as a graph of artifacts. A node's key is known once its inputs' content is;
// nodes with the same stage, settings and inputs are one node, so methods share what they can.
//
//   dump ─▶ calibrate ─▶ transform ─▶ books (one a side) ─▶ codebook ─▶ evaluate (method x task) ─▶ report
//
// `books` is codebook's inner half: the centroids of one side, kept apart so that methods which quantise
// that side alike train it once.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/artifact/store.h"
#include "core/common/progress.h"
#include "pipeline/experiment.h"
#include "pipeline/results.h"

namespace vi::pipeline {

class Session;

// What a stage's code sees while it runs.
struct StageContext {
  Session& session;
  artifact::Pending& pending;
  const Json& fields;
  Progress& progress;
  const std::vector<std::pair<std::string, const artifact::Artifact*>>& inputs;
  const artifact::Artifact& input(const std::string& name) const;
  const artifact::Artifact* find_input(const std::string& name) const;
};

// Writes its files through context.pending and names them.
using StageCode = std::function<std::vector<std::string>(StageContext&)>;

struct Node {
  std::string stage, label;                            // label: what people read, "codebook vecinfer-2"
  int version = 1;
  Json fields;
  std::map<std::string, std::string> files;            // inputs from outside: name -> content hash
  std::vector<std::pair<std::string, int>> inputs;     // inputs from nodes: name -> index
  std::vector<std::string> keep;                       // files that a killed run left and the stage continues
  StageCode code;
};

struct MethodNodes {
  int calibrate = -1, transform = -1, codebook = -1;   // -1: the method needs none
  int kmeans = -1;                                     // codebook before it was tuned; the same if it is not
  int tuned = -1;                                      // of a method put together by layers: all its codebooks, tuned together
  std::vector<int> evaluate;                           // one a task
};

struct Graph {
  std::vector<Node> nodes;  // inputs come before users
  int dump = -1, profile = -1, report = -1;
  std::vector<MethodNodes> methods;
};

// `stages_only`: leave out what only the report needs.
Graph build_graph(Session& session);

struct RunOptions {
  std::string force;                      // a stage to make again
  std::vector<std::string> only_stages;   // empty: all
};

// Makes (or finds) node `index` and what it needs.
class Runner {
 public:
  Runner(Session& session, const Graph& graph, artifact::Store& store, RunOptions options);
  const artifact::Artifact& make(int index);
  // Found without making anything; nullopt if it or an input is missing.
  std::optional<artifact::Artifact> find(int index);
  // The key, if the inputs are there.
  std::optional<artifact::StageKey> key(int index);
  int made() const { return made_; }

 private:
  artifact::StageKey key_of(int index, const std::vector<std::pair<std::string, const artifact::Artifact*>>& inputs) const;
  Session& session_;
  const Graph& graph_;
  artifact::Store& store_;
  RunOptions options_;
  std::vector<std::optional<artifact::Artifact>> done_;
  int made_ = 0, seen_ = 0;
};

}  // namespace vi::pipeline
