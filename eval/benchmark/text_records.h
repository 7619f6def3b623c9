// Texts out of a file: the whole of it, or one field of each line of a .jsonl file. A bad line is
// skipped, counted and named with file:line:field, as task.h does with benchmark records.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "eval/benchmark/task.h"

namespace vi::eval {

struct TextRecord {
  std::int64_t line = 0;  // from 1; 0: the whole file
  std::string text;       // valid UTF-8
};

struct TextRecords {
  std::vector<TextRecord> records;
  std::vector<SkippedRecord> skipped;
};

// ContractError if the file cannot be read or, where it is no .jsonl, is not valid UTF-8.
TextRecords read_texts(const std::filesystem::path& file, const std::string& field);

// 0-based place of the first byte that is not UTF-8; the size if there is none.
std::size_t first_invalid_byte(std::string_view text);

}  // namespace vi::eval
