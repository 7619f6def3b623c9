// Where the fixtures of make_text_fixtures.py lie, and what the tests of bad input share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>

#include "core/common/error.h"
#include "core/common/file.h"

namespace vi::model {

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(VI_TESTS_DIR) / "core/model/fixtures" / name;
}
inline nlohmann::json json_fixture(const std::string& name) { return nlohmann::json::parse(read_file(fixture(name))); }
inline std::filesystem::path smollm_gguf() {
  return std::filesystem::path(VI_SOURCE_DIR) / "data/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

// A path to a file of the test with these bytes.
inline std::filesystem::path scratch(const std::string& name, const std::string& bytes) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "vi_model_text";
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  const auto path = folder / info->test_suite_name() / info->name() / name;
  std::filesystem::create_directories(path.parent_path());
  write_file_atomic(path, bytes);
  return path;
}

// f() throws a ContractError of one line that holds all of `parts`.
template <class F>
void expect_contract_error(F&& f, std::initializer_list<const char*> parts) {
  try {
    f();
    ADD_FAILURE() << "expected a ContractError with " << *parts.begin();
  } catch (const ContractError& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    for (const char* part : parts) EXPECT_THAT(text, testing::HasSubstr(part));
  }
}

}  // namespace vi::model
