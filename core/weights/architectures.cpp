// The table of architectures that model files may name.
#include "core/weights/architectures.h"

#include <string>

#include "core/common/error.h"
#include "core/common/utf8.h"

namespace vi::model {

std::span<const Architecture> architectures() {
  static constexpr Architecture kTable[] = {
      // name       qkv_bias qk_norm interleaved_rope_rows
      {"llama", false, false, true},
      {"mistral", false, false, true},
      {"qwen2", true, false, false},
      {"qwen3", false, true, false},
  };
  return kTable;
}

const Architecture& find_architecture(std::string_view name, std::string_view place) {
  std::string known;
  for (const Architecture& a : architectures()) {
    if (a.name == name) return a;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", a.name);
  }
  fail<ContractError>("{}: expected an architecture of {}, got {}", place, known, printable(name));
}

}  // namespace vi::model
