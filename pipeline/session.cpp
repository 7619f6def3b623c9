#include "pipeline/session.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <set>
#include <thread>

#include "core/common/hash.h"
#include "core/common/simd.h"
#include "core/decoder/decoder.h"
#include "core/codec/fit.h"
#include "core/model/load.h"
#include "eval/gpu_backend.h"
#include "eval/benchmark/task.h"
#include "pipeline/paths.h"

namespace vi::pipeline {
namespace fs = std::filesystem;

Session::Session(Plan plan, Device device, TerminalProgress& progress)
    : plan_(std::move(plan)), device_(device), progress_(progress) {
  if (device_ == Device::cuda)
    eval::gpu_backend();  // says at once if there is none
  else if (plan_.model.dtype == Dtype::f16)
    fail<ConfigError>("model: dtype f16 needs --device cuda; on the CPU: f32 or bf16");
  const auto fit = [&](Method& method) {
    if (codec::fit_groups(method.codec, model().config.head_dim))
      progress_.note(fmt::format("{}: groups of channels are the whole head, {}: more bits than at head_dim 128", method.name, model().config.head_dim));
    codec::check_against_model(method.codec, model().config.head_dim, method.mark);
  };
  for (Method& method : plan_.methods) {
    fit(method);
    for (MethodPart& part : method.parts) {
      fit(part.method);
      for (const int layer : part.layers)
        if (layer >= model().config.n_layers)
          config::config_fail(method.mark, "layers: layer {} of a model with {}", layer, model().config.n_layers);
    }
  }
  if (leak() && !plan_.experiment.calibration.allow_leak)
    fail<ConfigError>(
        "calibration: a file is also evaluated on (same content); give another text, or say "
        "calibration: {{allow_leak: true}} and every result line will record it");
}

Session::~Session() = default;

const eval::TaskLibrary& Session::tasks() const {
  if (!tasks_) tasks_ = std::make_unique<eval::TaskLibrary>(project_root() / "eval" / "tasks");
  return *tasks_;
}

std::string Session::simd() const { return std::string(simd_name(best_simd())); }

Json Session::compute_fields() const {
  return Json{{"device", config::to_string(device_)},
              {"dtype", config::to_string(plan_.model.dtype)},
              {"simd", simd()}};
}

std::string Session::machine() const {
  if (device_ == Device::cuda) return eval::gpu_backend().device_name();
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line))
    if (line.starts_with("model name")) {
      const std::size_t colon = line.find(':');
      return fmt::format("{}, {} threads", line.substr(std::min(colon + 2, line.size())),
                         std::thread::hardware_concurrency());
    }
  return "unknown";
}

std::string Session::device_name() const {
  if (device_ == Device::cuda) return fmt::format("cuda ({})", eval::gpu_backend().device_name());
  return fmt::format("{} ({})", config::to_string(device_), simd());
}

const std::string& Session::weights_sha256() {
  if (weights_sha256_.empty()) {
    weights_sha256_ = model().weights->sha256();
    if (!plan_.model.sha256.empty() && plan_.model.sha256 != weights_sha256_)
      fail<ContractError>("{}: the weights' sha256 is {}, the model's YAML expects {}",
                          plan_.model.path, weights_sha256_, plan_.model.sha256);
  }
  return weights_sha256_;
}

std::string Session::model_sha256() {
  std::string all = weights_sha256();
  if (fs::is_directory(plan_.model.path))
    for (const char* name : {"config.json", "generation_config.json", "tokenizer.json",
                             "tokenizer_config.json", "chat_template.jinja"})
      if (const fs::path file = fs::path(plan_.model.path) / name; fs::exists(file))
        all += fmt::format(" {} {}", name, file_sha256(file.string()));
  return all.size() == 64 ? all : sha256_hex(all);
}

std::int64_t Session::weights_bytes() const {
  std::int64_t bytes = 0;
  if (fs::is_regular_file(plan_.model.path))
    return static_cast<std::int64_t>(fs::file_size(plan_.model.path));
  for (const auto& entry : fs::directory_iterator(plan_.model.path))
    if (entry.path().extension() == ".safetensors")
      bytes += static_cast<std::int64_t>(entry.file_size());
  return bytes;
}

std::string Session::file_sha256(const std::string& path) {
  auto& sum = file_sha256_[path];
  if (sum.empty()) sum = sha256_file(path);
  return sum;
}

std::vector<std::string> Session::task_files(const TaskSpec& task) const {
  if (task.dir.empty()) return task.files;
  std::vector<std::string> files;
  for (const eval::Task& one : tasks().expand(task.task))
    files.push_back(eval::find_task_file(one, task.dir).string());
  return files;
}

int Session::task_version(const TaskSpec& task) const {
  if (task.task == "perplexity" || task.task == "needle") return 1;
  return tasks().task(task.task).version;
}

bool Session::leak() {
  std::set<std::string> calibration;
  for (const std::string& file : plan_.experiment.calibration.files)
    calibration.insert(file_sha256(file));
  for (const TaskSpec& task : plan_.experiment.evaluate)
    for (const std::string& file : task_files(task))
      if (calibration.contains(file_sha256(file))) return true;
  return false;
}

std::string Session::git() const {
  if (!fs::exists(project_root() / ".git")) return "unknown";
  const std::string command = fmt::format(
      "git -C '{}' describe --always --dirty --abbrev=12 2>/dev/null", project_root().string());
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command.c_str(), "r"),
                                                             ::pclose);
  char text[128] = {};
  if (!pipe || !std::fgets(text, sizeof text, pipe.get())) return "unknown";
  std::string commit(text);
  while (!commit.empty() && commit.back() == '\n') commit.pop_back();
  return commit.empty() ? "unknown" : commit;
}

model::Model open_model(const ModelSpec& spec) {
  model::Model model = model::open_model(spec.path);
  if (spec.chat.kind == config::Node::Kind::map) model.chat_variables = config::to_json(spec.chat);
  return model;
}

const model::Model& Session::model() {
  if (!model_) model_ = std::make_unique<model::Model>(open_model(plan_.model));
  return *model_;
}

const model::Decoder& Session::decoder() {
  if (!decoder_) {
    weights_sha256();  // checks them first
    model::DecoderOptions options;
    options.dtype = plan_.model.dtype == Dtype::f32    ? at::kFloat
                    : plan_.model.dtype == Dtype::bf16 ? at::kBFloat16
                                                       : at::kHalf;
    if (device_ == Device::cuda) {
      decoder_ = std::make_unique<model::Decoder>(
          eval::gpu_backend().make_engine(model().config, *model().weights, options.dtype, progress_));
      return *decoder_;
    }
    decoder_ = std::make_unique<model::Decoder>(model().config, *model().weights, options);
  }
  return *decoder_;
}

std::unique_ptr<model::Decoder> Session::plain_decoder() {
  const bool gpu = device_ == Device::cuda;
  if (gpu) eval::gpu_backend();  // brings the CUDA half of torch
  return std::make_unique<model::Decoder>(
      model().config, *model().weights, model::DecoderOptions{at::kFloat, gpu ? at::kCUDA : at::kCPU, true});
}

std::int64_t Session::max_length() {
  const std::int64_t model_limit = model().config.max_position;
  return plan_.model.max_length > 0 ? std::min(plan_.model.max_length, model_limit) : model_limit;
}

}  // namespace vi::pipeline
