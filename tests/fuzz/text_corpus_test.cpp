// Replays the corpora of the text-side fuzzers: every input that once broke something, and the seeds.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "core/common/file.h"
#include "tests/fuzz/text_targets.h"

namespace vi::fuzz {
namespace {

void replay(const std::string& name, const std::function<void(Bytes)>& target) {
  int n = 0;
  for (const auto& entry : std::filesystem::directory_iterator(VI_TESTS_DIR "/fuzz/corpus/" + name)) {
    SCOPED_TRACE(entry.path().filename().string());
    const std::string bytes = read_file(entry.path());
    EXPECT_NO_THROW(target({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}));
    ++n;
  }
  EXPECT_GT(n, 5);
}

TEST(TextCorpus, Gguf) { replay("gguf", gguf); }
TEST(TextCorpus, Safetensors) { replay("safetensors", safetensors); }
TEST(TextCorpus, TokenizerJson) { replay("tokenizer_json", tokenizer_json); }
TEST(TextCorpus, ConfigJson) { replay("config_json", config_json); }
TEST(TextCorpus, Jinja) { replay("jinja", jinja); }

}  // namespace
}  // namespace vi::fuzz
