// libFuzzer target; what one input does: core_targets.h. Corpus: corpus/h5.
#include "tests/fuzz/core_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vi::fuzz::h5({data, size});
  return 0;
}
