// One side of one (layer, KV head): tokens to packed bytes and back. Rows are float [n, head_dim]
// in the space the model uses (post-RoPE keys, values); transforms live inside. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/quant/code_layout.h"
#include "core/transform/head_transform.h"

namespace vi::quant {

// What the fused attention needs of a vector code: codes and centroids, no copy.
struct VectorView {
  CodeLayout layout;  // n_books sub-spaces
  int dsub = 0;
  bool shared = false;               // one codebook for all sub-spaces
  const float* centroids = nullptr;  // [shared ? 1 : n_books, ksub, dsub], every value exact in f16
  const transform::HeadTransform* transform = nullptr;
};

// Where rows stand that are coded without a stream, and what a value coder may see beside them.
struct Place {
  std::size_t position = 0;     // of the first row in its sequence
  const float* keys = nullptr;  // [n, head_dim]: the same tokens' keys, for coders that want them
};

class HeadCoder {
 public:
  virtual ~HeadCoder() = default;
  // Tokens are coded in whole multiples of this many (1 for vector codes and per-token integers,
  // the group for per-channel integers).
  virtual int seal_tokens() const = 0;
  virtual int head_dim() const = 0;
  // Packed bytes of n coded tokens (payload + scales, zero points), a whole number of blocks.
  virtual std::size_t stream_bytes(std::size_t n) const = 0;
  // Bits per element: payload and metadata apart.
  virtual double payload_bits() const = 0;
  virtual double metadata_bits() const = 0;
  // Codes n tokens into `stream` (of stream_bytes(first + n), zeroed beyond what was coded) as
  // tokens [first, first + n), multiples of seal_tokens(). Error if a row is not finite.
  virtual void encode(const float* rows, std::size_t n, std::size_t first,
                      std::uint8_t* stream) const = 0;
  // The reconstruction of tokens [first, first + n), any first and n.
  virtual void decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                      float* rows) const = 0;
  // Bytes of every stream that do not grow with its tokens (a pool of exact tokens); part of
  // stream_bytes(n) for n > 0.
  virtual std::size_t fixed_bytes() const { return 0; }
  // True: a token's code depends on the tokens before it, so a sequence is coded from its start on.
  virtual bool sequential() const { return false; }
  // True: the coder of values that must see its tokens' keys; then encode_with_keys is called in
  // place of encode, with keys [n, head_dim].
  virtual bool wants_keys() const { return false; }
  virtual void encode_with_keys(const float* rows, const float* keys, std::size_t n,
                                std::size_t first, std::uint8_t* stream) const;
  // Non-null for vector codes.
  virtual const VectorView* vector_view() const { return nullptr; }

  // rows -> their reconstruction, any n (a last short group is coded by itself). Same values as
  // encode + decode. out may be rows.
  virtual void reconstruct(const float* rows, std::size_t n, float* out) const;
  // The same for coders to whom the rows' place matters; by default it does not.
  virtual void reconstruct_at(const float* rows, std::size_t n, const Place& place,
                              float* out) const;
};

}  // namespace vi::quant
