// libFuzzer target; what one input does: math_targets.h. Corpus: corpus/math_latex.
#include "tests/fuzz/math_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vi::fuzz::math_latex({data, size});
  return 0;
}
