#include "core/quant/head_coder.h"

#include "core/common/error.h"

namespace vi::quant {

void HeadCoder::reconstruct(const float* rows, std::size_t n, float* out) const {
  VI_CHECK(n % seal_tokens() == 0, "{} tokens are not whole groups of {}", n, seal_tokens());
  std::vector<std::uint8_t> stream(stream_bytes(n), 0);
  encode(rows, n, 0, stream.data());
  decode(stream.data(), 0, n, out);
}

void HeadCoder::encode_with_keys(const float* rows, const float*, std::size_t n, std::size_t first,
                                 std::uint8_t* stream) const {
  encode(rows, n, first, stream);
}

void HeadCoder::reconstruct_at(const float* rows, std::size_t n, const Place&, float* out) const {
  reconstruct(rows, n, out);
}

}  // namespace vi::quant
