// tokenize, logits, score: commands for programs; JSON to stdout.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "core/common/file.h"
#include "core/decoder/decoder.h"
#include "core/model/load.h"
#include "eval/gpu_backend.h"
#include "eval/modes/modes.h"
#include "eval/math/checker.h"
#include "eval/benchmark/predictions.h"
#include "eval/benchmark/rescore.h"
#include "pipeline/commands.h"
#include "pipeline/experiment.h"
#include "pipeline/paths.h"
#include "pipeline/session.h"
#include "pipeline/terminal.h"

namespace vi::pipeline {
namespace {

std::vector<std::int32_t> parse_ids(std::string_view text, const char* option) {
  std::vector<std::int32_t> ids;
  while (!text.empty()) {
    const std::size_t skip = text.find_first_not_of(", \t\n[]");
    if (skip == std::string_view::npos) break;
    text.remove_prefix(skip);
    std::int32_t id = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
    const bool whole =
        code == std::errc{} && (end == text.data() + text.size() ||
                                std::string_view(", \t\n]").find(*end) != std::string_view::npos);
    if (!whole || id < 0)
      fail<ConfigError>("{}: expected token ids like \"1,2,3\", not '{}'", option,
                        text.substr(0, 24));
    ids.push_back(id);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  }
  return ids;
}

std::string read_text(const std::string& file) {
  if (file != "-") return read_file(file);
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

}  // namespace

int tokenize_command(const std::string& name, const std::string& text_file, bool chat, bool decode,
                     const std::string& ids) {
  if (text_file.empty() && ids.empty())
    fail<ConfigError>("tokenize: --text-file is required{}", decode ? " (or --ids)" : "");
  if (!ids.empty() && !decode) fail<ConfigError>("tokenize: --ids goes with --decode");
  const model::Model model = open_model(load_model_spec(name));
  if (decode) {
    std::vector<std::int32_t> list;
    if (!ids.empty()) {
      list = parse_ids(ids, "--ids");
    } else {
      const Json json = parse_json(read_text(text_file), text_file);
      const Json& values = json.is_object() && json.contains("ids") ? json.at("ids") : json;
      if (!values.is_array())
        fail<ContractError>("{}: expected {{\"ids\":[...]}} or a list of ids", text_file);
      for (const Json& value : values) {
        if (!value.is_number_integer())
          fail<ContractError>("{}: expected whole numbers as ids", text_file);
        list.push_back(value.get<std::int32_t>());
      }
    }
    const std::string text = model.tokenizer->decode(list);
    std::printf("%s\n",
                Json{{"text", text}}.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    return 0;
  }
  std::string text;
  try {
    text = read_text(text_file);
    if (chat) text = model.chat_prompt({{"user", text}});
    std::printf("%s\n", Json{{"ids", model.tokenizer->encode(text)}}.dump().c_str());
  } catch (const ContractError& error) {
    const std::string what = error.what();
    fail<ContractError>("{}{}", what.starts_with("text: ") ? text_file + ": " : "",
                        what.starts_with("text: ") ? what.substr(6) : what);
  }
  return 0;
}

int logits_command(const std::string& name, const std::string& ids_text, int top,
                   const std::string& device) {
  const std::vector<std::int32_t> ids = parse_ids(ids_text, "--ids");
  if (ids.empty()) fail<ConfigError>("--ids: expected at least one token id");
  const model::Model model = open_model(load_model_spec(name));
  for (const std::int32_t id : ids)
    if (id >= model.config.vocab)
      fail<ConfigError>("--ids: {} is outside the vocabulary of {} tokens", id, model.config.vocab);
  TerminalProgress progress;
  const model::Decoder decoder =
      device == "cuda"
          ? model::Decoder(eval::gpu_backend().make_engine(model.config, *model.weights, at::kFloat, progress))
          : model::Decoder(model.config, *model.weights);
  eval::ExactAttention attention;
  const at::Tensor hidden = decoder.forward(ids, 0, attention);
  const at::Tensor logits = decoder.logits(hidden.slice(0, hidden.size(0) - 1)).to(at::kCPU).contiguous();
  const float* data = logits.const_data_ptr<float>();
  std::vector<std::int32_t> order(static_cast<std::size_t>(logits.size(1)));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  const auto count = std::min<std::size_t>(order.size(), static_cast<std::size_t>(top));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::int32_t a, std::int32_t b) {
                      return data[a] != data[b] ? data[a] > data[b] : a < b;
                    });
  Json list = Json::array();
  for (std::size_t i = 0; i < count; ++i)
    list.push_back({{"id", order[i]}, {"logit", data[order[i]]}});
  std::printf("%s\n", Json{{"top", list}}.dump().c_str());
  return 0;
}

int score_command(const std::string& task, const std::string& cases, const std::vector<std::string>& predictions) {
  if (predictions.empty() && task.empty())
    fail<ConfigError>("score: needs --task and --cases, or --predictions");
  if (!predictions.empty()) {
    const eval::TaskLibrary library(project_root() / "eval" / "tasks");
    for (const std::string& file : predictions) std::printf("%s\n", eval::rescore(library, file).dump().c_str());
    return 0;
  }
  const auto needs_algebra = [] {
    if (!eval::math::use_installed_checker())
      TerminalProgress().note(
          "vecinfer-math is missing beside this program (it needs libginac-dev when it is built): answers are "
          "compared by numbers, without algebra");
  };
  std::int64_t bad = 0;
  if (task == "math") {
    needs_algebra();
    bad = eval::score_math_cases(cases, std::cout);
  } else {
    const eval::TaskLibrary library(project_root() / "eval" / "tasks");
    const eval::Task one = library.task(task);
    if (one.metric == "math") needs_algebra();
    bad = eval::score_cases(one, cases, std::cout);
  }
  std::cout.flush();
  if (bad > 0)
    fail<ContractError>("{}: {} lines could not be scored (their \"error\" says why)", cases, bad);
  return 0;
}

}  // namespace vi::pipeline
