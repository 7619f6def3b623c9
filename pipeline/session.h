// One run of the program over one plan: the settings, what is loaded (once), and where progress goes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "pipeline/experiment.h"
#include "pipeline/terminal.h"

namespace vi::model {
class Decoder;
struct Model;
}  // namespace vi::model
namespace vi::eval {
class TaskLibrary;
}

namespace vi::pipeline {

// The model of `spec`, its chat template's variables set. ContractError.
model::Model open_model(const ModelSpec& spec);

class Session {
 public:
  Session(Plan plan, Device device, TerminalProgress& progress);
  ~Session();

  const Plan& plan() const { return plan_; }
  Device device() const { return device_; }
  TerminalProgress& progress() { return progress_; }
  const eval::TaskLibrary& tasks() const;

  // Facts that enter keys.
  Json compute_fields() const;                  // {"device", "dtype", "simd"}
  std::string simd() const;
  std::string machine() const;                  // CPU name and cores: only `profile` depends on it
  const std::string& weights_sha256();          // checked against the model's YAML
  std::string model_sha256();                   // of weights, configuration and tokenizer
  std::string file_sha256(const std::string& path);
  std::vector<std::string> task_files(const TaskSpec& task) const;  // whose contents the task reads
  int task_version(const TaskSpec& task) const;
  bool leak();                                  // calibration text is evaluation text (allowed by the YAML only)
  std::int64_t weights_bytes() const;
  std::string git() const;                      // commit of the checkout, "unknown" outside of one
  std::string device_name() const;              // "cpu (AMD EPYC, 2 threads)"

  // Loaded on first use.
  const model::Model& model();                  // config, tokenizer, template, weights
  const model::Decoder& decoder();
  // Another one, f32 and of plain ATen operations: what autograd goes through.
  std::unique_ptr<model::Decoder> plain_decoder();
  std::int64_t max_length();                    // tokens of a prompt and its answer

  std::string current_label;                    // of the node being made, for progress

 private:
  Plan plan_;
  Device device_;
  TerminalProgress& progress_;
  mutable std::unique_ptr<eval::TaskLibrary> tasks_;
  std::string weights_sha256_;
  std::map<std::string, std::string> file_sha256_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::Decoder> decoder_;
};

}  // namespace vi::pipeline
