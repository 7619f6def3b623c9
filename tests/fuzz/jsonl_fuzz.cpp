// libFuzzer target; what one input does: core_targets.h. Corpus: corpus/jsonl.
#include "tests/fuzz/core_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vi::fuzz::jsonl({data, size});
  return 0;
}
