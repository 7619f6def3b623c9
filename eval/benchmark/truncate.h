// Middle truncation as LongBench's pred.py does it: of the token ids of the whole prompt (special
// tokens included) the first and the last max/2 are kept and decoded back to text, special tokens
// dropped; the chat template is applied to that text afterwards and the result is encoded anew. The
// text is the official result; its own ids may differ from the ids that were kept.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vi::eval {

struct TextCodec {
  std::function<std::vector<std::int32_t>(std::string_view)> encode;  // with special tokens (BOS)
  std::function<std::string(std::span<const std::int32_t>)> decode;   // without special tokens
};

struct TruncatedPrompt {
  std::string text;
  std::int64_t tokens_before = 0;  // of the whole prompt
  std::int64_t tokens_after = 0;   // of `text`, encoded anew, before any chat template
  bool truncated = false;
};

// Keeps prompts of at most max_tokens; max_tokens >= 2 (an odd limit keeps max_tokens - 1).
TruncatedPrompt truncate_middle(std::string_view prompt, std::int64_t max_tokens,
                                const TextCodec& codec);

}  // namespace vi::eval
