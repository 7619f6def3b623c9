// The readers of task.h: official JSONL records into Documents, bad ones skipped with
// file:line:field.
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "core/common/error.h"
#include "eval/benchmark/task.h"
#include "eval/text/unicode.h"
#include "eval/benchmark/text_records.h"

namespace vi::eval {
namespace fs = std::filesystem;
namespace {

// Thrown for one record, caught by read_documents.
struct BadRecord {
  std::string field, expected;
};

[[noreturn]] void bad(std::string field, std::string expected) {
  throw BadRecord{std::move(field), std::move(expected)};
}

const Json& field_of(const Json& record, const char* name) {
  const auto value = record.find(name);
  if (value == record.end()) bad(name, "the field is missing");
  return *value;
}

std::string text_of(const Json& record, const char* name, bool may_be_empty) {
  const Json& value = field_of(record, name);
  if (!value.is_string()) bad(name, fmt::format("expected a text, found {}", value.type_name()));
  if (!may_be_empty && value.get_ref<const std::string&>().empty())
    bad(name, "expected a text, it is empty");
  return value.get<std::string>();
}

std::vector<std::string> list_of(const Json& record, const char* name) {
  const Json& value = field_of(record, name);
  if (!value.is_array())
    bad(name, fmt::format("expected a list of texts, found {}", value.type_name()));
  if (value.empty()) bad(name, "expected a list of texts, it is empty");
  std::vector<std::string> list;
  for (const Json& item : value) {
    if (!item.is_string())
      bad(name, fmt::format("expected a list of texts, found {} in it", item.type_name()));
    list.push_back(item.get<std::string>());
  }
  return list;
}

// A text, or a number as a person writes it: 27.0 is "27".
std::string answer_text(const Json& record) {
  const Json& value = field_of(record, "answer");
  if (value.is_string()) return text_of(record, "answer", false);
  if (value.is_number_integer()) return value.dump();
  if (!value.is_number_float())
    bad("answer", fmt::format("expected a text or a number, found {}", value.type_name()));
  const double number = value.get<double>();
  if (std::nearbyint(number) == number && std::abs(number) < 0x1.0p53)
    return std::to_string(static_cast<std::int64_t>(number));
  return value.dump();
}

std::string id_of(const Json& record, const char* name, std::int64_t index) {
  const auto value = record.find(name);
  if (value == record.end() || value->is_null()) return std::to_string(index);
  return value->is_string() ? value->get<std::string>() : value->dump();
}

void read_longbench(const Task& task, Document& document) {
  const Json& record = document.record;
  text_of(record, "input", true);
  text_of(record, "context", false);
  document.answers = list_of(record, "answers");
  const Json& classes = field_of(record, "all_classes");
  if (!classes.is_null() || task.metric == "classification")
    document.all_classes = list_of(record, "all_classes");
  const Json& length = field_of(record, "length");
  if (!length.is_number_integer())
    bad("length", fmt::format("expected a whole number, found {}", length.type_name()));
  document.length = length.get<std::int64_t>();
  document.id = id_of(record, "_id", document.index);
}

void read_gsm8k(Document& document) {
  text_of(document.record, "question", false);
  const std::string worked = text_of(document.record, "answer", false);
  const std::size_t mark = worked.rfind("####");
  if (mark == std::string::npos) bad("answer", "expected the final answer after '####'");
  std::string final_answer(text::trim_ascii(std::string_view(worked).substr(mark + 4)));
  std::erase(final_answer, ',');
  if (final_answer.empty()) bad("answer", "expected the final answer after '####'");
  document.answers = {final_answer};
  document.id = std::to_string(document.index);
}

void fill(const Task& task, Document& document) {
  switch (task.format) {
    case RecordFormat::longbench:
      return read_longbench(task, document);
    case RecordFormat::gsm8k:
      return read_gsm8k(document);
    case RecordFormat::math500:
    case RecordFormat::aime:
    case RecordFormat::amc:
      text_of(document.record, "problem", false);
      document.answers = {answer_text(document.record)};
      document.id =
          id_of(document.record, task.format == RecordFormat::math500 ? "unique_id" : "id",
                document.index);
      return;
  }
}

}  // namespace

fs::path find_task_file(const Task& task, const fs::path& folder) {
  const std::string suite = task.name.substr(0, task.name.find('/'));
  const fs::path file = task.file, name = file.filename();
  std::string tried;
  for (const fs::path& candidate :
       {folder / file, folder / name, folder / "e" / name, folder / suite / name,
        folder / suite / "e" / name, folder / "data" / name}) {
    std::error_code code;
    if (fs::is_regular_file(candidate, code)) return candidate;
    tried += (tried.empty() ? "" : ", ") + candidate.string();
  }
  fail<ContractError>("{}: no file of records; looked for {}", task.name, tried);
}

Documents read_documents(const Task& task, const fs::path& file, std::int64_t limit) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream || fs::is_directory(file))
    fail<ContractError>("{}: cannot be read: {}", file.string(), std::strerror(errno));
  Documents result;
  std::string line;
  std::int64_t index = 0;
  for (std::int64_t number = 1; std::getline(stream, line); ++number) {
    if (limit >= 0 && static_cast<std::int64_t>(result.documents.size()) >= limit) break;
    if (text::trim_ascii(line).empty()) continue;
    Document document;
    document.index = index++;
    document.line = number;
    const std::string place = fmt::format("{}:{}", file.string(), number);
    try {
      if (!text::is_valid_utf8(line)) {
        result.skipped.push_back({number, fmt::format("{}: not valid UTF-8 at byte {}", place,
                                                      first_invalid_byte(line) + 1)});
        continue;
      }
      document.record = parse_json(line, place);
      if (!document.record.is_object()) fail<ContractError>("{}: expected a JSON object", place);
      fill(task, document);
      result.documents.push_back(std::move(document));
    } catch (const BadRecord& problem) {
      result.skipped.push_back(
          {number, fmt::format("{}:{}: {}", place, problem.field, problem.expected)});
    } catch (const ContractError& error) {
      result.skipped.push_back({number, error.what()});
    }
  }
  if (stream.bad()) fail<ContractError>("{}: read error: {}", file.string(), std::strerror(errno));
  return result;
}

}  // namespace vi::eval
