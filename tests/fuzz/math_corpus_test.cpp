// Replays the corpus of the fuzzer of mathematical answers: seeds and hostile texts.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/common/file.h"
#include "tests/fuzz/math_targets.h"

namespace vi::fuzz {
namespace {

TEST(MathCorpus, Latex) {
  int n = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(VI_TESTS_DIR "/fuzz/corpus/math_latex")) {
    SCOPED_TRACE(entry.path().filename().string());
    const std::string bytes = read_file(entry.path());
    EXPECT_NO_THROW(math_latex({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}));
    ++n;
  }
  EXPECT_GT(n, 20);
}

}  // namespace
}  // namespace vi::fuzz
