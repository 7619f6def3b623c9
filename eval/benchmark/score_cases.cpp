// `vecinfer score`: case files in, the same lines with a score out.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <ostream>

#include "core/common/error.h"
#include "eval/math/answer.h"
#include "eval/benchmark/predictions.h"
#include "eval/text/unicode.h"

namespace vi::eval {
namespace {

const std::string& text_field(const Json& json, const std::string& place, const char* field) {
  const auto value = json.find(field);
  if (value == json.end()) fail<ContractError>("{}:{}: the field is missing", place, field);
  if (!value->is_string())
    fail<ContractError>("{}:{}: expected a text, found {}", place, field, value->type_name());
  return value->get_ref<const std::string&>();
}

std::string text_or_number(const Json& json, const std::string& place, const char* field) {
  const auto value = json.find(field);
  if (value != json.end() && value->is_number()) return value->dump();
  return text_field(json, place, field);
}

std::vector<std::string> answers_field(const Json& json, const std::string& place) {
  const auto value = json.find("answers");
  if (value == json.end()) fail<ContractError>("{}:answers: the field is missing", place);
  std::vector<std::string> answers;
  if (value->is_array())
    for (const Json& item : *value)
      if (item.is_string()) answers.push_back(item.get<std::string>());
  if (!value->is_array() || answers.size() != value->size())
    fail<ContractError>("{}:answers: expected a list of texts", place);
  return answers;
}

std::int64_t for_each_case(const std::filesystem::path& cases, std::ostream& out,
                           const std::function<void(Json&, const std::string&)>& fn) {
  std::ifstream file(cases, std::ios::binary);
  if (!file || std::filesystem::is_directory(cases))
    fail<ContractError>("{}: cannot be read: {}", cases.string(), std::strerror(errno));
  std::int64_t bad_lines = 0;
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); ++number) {
    if (text::trim_ascii(line).empty()) continue;
    const std::string place = fmt::format("{}:{}", cases.string(), number);
    Json json = Json::object();
    try {
      if (!text::is_valid_utf8(line)) fail<ContractError>("{}: not valid UTF-8", place);
      Json parsed = parse_json(line, place);
      if (!parsed.is_object()) fail<ContractError>("{}: expected a JSON object", place);
      json = std::move(parsed);
      fn(json, place);
    } catch (const ContractError& error) {
      const std::string message = error.what();  // a metric's own message names the field only
      json["error"] = message.starts_with(place) ? message : fmt::format("{}:{}", place, message);
      ++bad_lines;
    }
    out << json.dump() << '\n';
  }
  return bad_lines;
}

}  // namespace

std::int64_t score_cases(const Task& task, const std::filesystem::path& cases, std::ostream& out) {
  if (task.metric == "math") return score_math_cases(cases, out);
  // A predictions.jsonl says what it is of; other cases say nothing.
  std::ifstream file(cases, std::ios::binary);
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); ++number) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    if (const auto name = json.find("task"); name != json.end() && name->is_string() && *name != task.name)
      if (json.contains("task_version"))
        fail<ContractError>("{}:{}:task: is of task '{}', expected '{}'", cases.string(), number, name->get<std::string>(), task.name);
    if (const auto version = json.find("task_version"); version != json.end() && *version != task.version)
      fail<ContractError>("{}:{}:task_version: is of version {} of {}, this build has version {}", cases.string(), number,
                          version->dump(), task.name, task.version);
  }
  return for_each_case(cases, out, [&](Json& json, const std::string& place) {
    const double score = score_prediction(task, text_field(json, place, "prediction"),
                                          answers_field(json, place), json);
    json["score"] = score;
  });
}

std::int64_t score_math_cases(const std::filesystem::path& cases, std::ostream& out) {
  return for_each_case(cases, out, [&](Json& json, const std::string& place) {
    const std::string prediction = text_or_number(json, place, "prediction");
    const std::string answer = text_or_number(json, place, "answer");
    const math::Verdict verdict = math::judge(prediction, answer);
    json["equal"] = verdict.equal;
    json["extracted"] = verdict.extracted ? Json(*verdict.extracted) : Json(nullptr);
  });
}

}  // namespace vi::eval
