// Outlier tokens traced (OTT, arXiv 2505.10938). Tokens are coded `group` at a time; before that the
// `tokens` of smallest key magnitude, sum over channels of |k|, among the group and the pool are found
// (of equals the earlier token). Those of the group enter the pool: they are kept as halves for good, and
// the group's mean stands in their place when it is coded. A token that a smaller one pushes out of the
// pool moves to the auxiliary pool, still exact; once that holds `auxiliary` tokens, tracing stops.
// Values follow their keys' choice. Stream: the pools' fixed bytes, then the inner stream.
#pragma once

#include "core/quant/compose/block_coder.h"

namespace vi::quant {

struct PoolForm {
  int tokens = 3;      // 0: nothing is traced
  int auxiliary = 32;
  int group = 128;
  bool keys = true;    // this coder's rows are the keys; else it wants them
};

class TokenPool final : public HeadCoder {
 public:
  // The inner coder's groups divide form.group.
  TokenPool(const PoolForm& form, std::unique_ptr<HeadCoder> inner);
  int seal_tokens() const override { return form_.group; }
  int head_dim() const override { return inner_->head_dim(); }
  std::size_t stream_bytes(std::size_t n) const override {
    return n == 0 ? 0 : fixed_bytes() + inner_->stream_bytes(n);
  }
  std::size_t fixed_bytes() const override { return capacity() * entry_bytes(); }
  double payload_bits() const override { return inner_->payload_bits(); }
  double metadata_bits() const override { return inner_->metadata_bits(); }
  bool sequential() const override { return true; }
  bool wants_keys() const override { return !form_.keys; }
  // Error where the coder wants keys.
  void encode(const float* rows, std::size_t n, std::size_t first,
              std::uint8_t* stream) const override;
  void encode_with_keys(const float* rows, const float* keys, std::size_t n, std::size_t first,
                        std::uint8_t* stream) const override;
  void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
              float* rows) const override;
  void reconstruct(const float* rows, std::size_t n, float* out) const override;
  void reconstruct_at(const float* rows, std::size_t n, const Place& place,
                      float* out) const override;

 private:
  std::size_t capacity() const;  // entries: pool, auxiliary pool and what one event can push over its end
  std::size_t entry_bytes() const { return 12 + 2 * static_cast<std::size_t>(head_dim()); }
  // One event: traces in `pools`, and overwrites the group's chosen rows with the group's mean.
  void trace(float* rows, const float* keys, std::size_t n, std::size_t first,
             std::uint8_t* pools) const;
  void restore(const std::uint8_t* pools, std::size_t first, std::size_t n, float* rows) const;
  PoolForm form_;
  std::unique_ptr<HeadCoder> inner_;
};

}  // namespace vi::quant
