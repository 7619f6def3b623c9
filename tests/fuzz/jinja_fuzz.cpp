// libFuzzer target; what one input does: text_targets.h. Corpus: corpus/jinja.
#include "tests/fuzz/text_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vi::fuzz::jinja({data, size});
  return 0;
}
