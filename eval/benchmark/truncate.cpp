#include "eval/benchmark/truncate.h"

#include "core/common/error.h"

namespace vi::eval {

TruncatedPrompt truncate_middle(std::string_view prompt, std::int64_t max_tokens,
                                const TextCodec& codec) {
  VI_CHECK(max_tokens >= 2, "a prompt cannot be cut to {} tokens", max_tokens);
  TruncatedPrompt result;
  const std::vector<std::int32_t> ids = codec.encode(prompt);
  result.tokens_before = result.tokens_after = static_cast<std::int64_t>(ids.size());
  if (result.tokens_before <= max_tokens) {
    result.text = prompt;
    return result;
  }
  const auto half = static_cast<std::size_t>(max_tokens / 2);
  const std::span<const std::int32_t> all(ids);
  result.text = codec.decode(all.first(half)) + codec.decode(all.last(half));
  result.tokens_after = static_cast<std::int64_t>(codec.encode(result.text).size());
  result.truncated = true;
  return result;
}

}  // namespace vi::eval
