// Which tokens of a sequence are coded: the one place that knows the flush rules (spec.h,
// WindowSpec). The accountant and the caches share it.
#pragma once

#include <cstdint>

#include "core/codec/spec.h"

namespace vi::codec {

// Of a sequence of `tokens` tokens the tokens [sinks, sinks + coded_tokens) are coded, the others
// exact. With T = max(0, tokens - sinks):
//   block    floor((T - recent + step) / step) * step, at least 0 (recent 0: all of T), cut to a multiple of `seal`;
//            step = recent, floor(T / recent) * recent, in the papers' windows
//   sliding  max(0, T - recent), cut to a multiple of `seal`
// Never falls as tokens grow. seal: HeadCoder::seal_tokens().
std::int64_t coded_tokens(const WindowSpec& window, bool key, std::int64_t tokens, int seal);

}  // namespace vi::codec
