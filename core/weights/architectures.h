// What differs between the families of one decoder, as a table of flags; a model outside the table
// is refused, never guessed at.
#pragma once

#include <span>
#include <string_view>

namespace vi::model {

struct Architecture {
  std::string_view name;  // GGUF's general.architecture and config.json's model_type
  bool qkv_bias;          // always there (llama has it by config.json's attention_bias)
  bool qk_norm;
  bool interleaved_rope_rows;  // its GGUF files permute the rows of attn_q and attn_k
};
std::span<const Architecture> architectures();
// ContractError "<place>: expected one of ..." if there is none.
const Architecture& find_architecture(std::string_view name, std::string_view place);

}  // namespace vi::model
