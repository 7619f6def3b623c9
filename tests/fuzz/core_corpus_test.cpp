// Replays the corpora of the core fuzzers: every input that once broke something, and the seeds.
#include <gtest/gtest.h>

#include <functional>

#include "tests/fuzz/core_targets.h"

namespace vi::fuzz {
namespace {

void replay(const std::string& name, const std::function<void(Bytes)>& target) {
  int n = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(VI_TESTS_DIR "/fuzz/corpus/" + name)) {
    SCOPED_TRACE(entry.path().filename().string());
    const std::string bytes = read_file(entry.path());
    EXPECT_NO_THROW(target({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}));
    ++n;
  }
  EXPECT_GT(n, 5);
}

TEST(CoreCorpus, Yaml) { replay("yaml", yaml); }
TEST(CoreCorpus, Jsonl) { replay("jsonl", jsonl); }
TEST(CoreCorpus, H5) { replay("h5", h5); }

}  // namespace
}  // namespace vi::fuzz
