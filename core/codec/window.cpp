#include "core/codec/window.h"

#include <algorithm>

namespace vi::codec {

std::int64_t coded_tokens(const WindowSpec& window, bool key, std::int64_t tokens, int seal) {
  const std::int64_t rest = std::max<std::int64_t>(0, tokens - window.sinks), recent = window.recent;
  std::int64_t coded = rest;
  if (recent > 0) {
    const bool block = (key ? window.key_flush : window.value_flush) == Flush::block;
    coded = std::max<std::int64_t>(0, block ? rest - recent + window.block() : rest - recent);
    if (block) coded = coded / window.block() * window.block();
  }
  return coded / seal * seal;
}

}  // namespace vi::codec
