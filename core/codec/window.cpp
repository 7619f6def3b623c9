#include "core/codec/window.h"

#include <algorithm>

namespace vi::codec {

std::int64_t coded_tokens(std::int64_t tokens, int sinks, int recent, Flush flush, int seal) {
  const std::int64_t rest = std::max<std::int64_t>(0, tokens - sinks);
  std::int64_t coded = rest;
  if (recent > 0)
    coded =
        flush == Flush::block ? rest / recent * recent : std::max<std::int64_t>(0, rest - recent);
  return coded / seal * seal;
}

}  // namespace vi::codec
