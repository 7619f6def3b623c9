#include "eval/benchmark/text_records.h"

#include "core/common/error.h"
#include "core/common/file.h"
#include "eval/text/unicode.h"

namespace vi::eval {

std::size_t first_invalid_byte(std::string_view text) {
  std::size_t low = 0;
  for (std::size_t end = 1; end <= text.size(); ++end) {
    const std::string_view part = text.substr(low, end - low);
    if (text::is_valid_utf8(part))
      low = end;
    else if (part.size() >= 4)
      break;
  }
  return low;
}

TextRecords read_texts(const std::filesystem::path& file, const std::string& field) {
  TextRecords result;
  std::string all = read_file(file);
  if (file.extension() != ".jsonl") {
    if (!text::is_valid_utf8(all))
      fail<ContractError>("{}: not valid UTF-8 at byte {}", file.string(), first_invalid_byte(all) + 1);
    result.records.push_back({0, std::move(all)});
    return result;
  }
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    const std::string_view line = std::string_view(all).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (text::trim_ascii(line).empty()) continue;
    const std::string place = fmt::format("{}:{}", file.string(), number);
    const auto skip = [&](const std::string& why) { result.skipped.push_back({number, why}); };
    if (!text::is_valid_utf8(line)) {
      skip(fmt::format("{}: not valid UTF-8 at byte {}", place, first_invalid_byte(line) + 1));
      continue;
    }
    try {
      const Json record = parse_json(line, place);
      const auto value = record.is_object() ? record.find(field) : record.end();
      if (!record.is_object())
        skip(fmt::format("{}: expected a JSON object", place));
      else if (value == record.end())
        skip(fmt::format("{}:{}: the field is missing", place, field));
      else if (!value->is_string())
        skip(fmt::format("{}:{}: expected a text, found {}", place, field, value->type_name()));
      else
        result.records.push_back({number, value->get<std::string>()});
    } catch (const ContractError& error) {
      skip(error.what());
    }
  }
  return result;
}

}  // namespace vi::eval
