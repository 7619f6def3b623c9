// libFuzzer target; what one input does: text_targets.h. Corpus: corpus/tokenizer_json.
#include "tests/fuzz/text_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vi::fuzz::tokenizer_json({data, size});
  return 0;
}
