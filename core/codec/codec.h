// A codec fitted to a model: a coder for each (layer, KV head, side), and its bits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/codec/head_coder.h"
#include "core/codec/spec.h"

namespace vi::codec {

// What calibration found, in memory as in transform.h5 and codebook.h5 (docs/artifacts.md).
// transforms[layer * n_kv_heads + head]; empty when the side has no transforms.
struct TransformSet {
  int n_layers = 0, n_kv_heads = 0, head_dim = 0;
  std::vector<transform::HeadTransform> key, value;
  std::vector<double> rope = {};  // [head_dim / 2] radians a token; empty: no side is tapped before RoPE
};

// centroids [n_layers or 1, n_groups, n_books, n_stages, ksub, dsub]; n_groups = n_kv_heads, or 1 when a
// layer or the model shares; n_books = head_dim / dsub, or 1 when the sub-spaces share.
struct CodebookSide {
  int n_layers = 0, n_groups = 0, n_books = 0, ksub = 0, dsub = 0;
  std::vector<float> centroids;  // every value exact in f16
  int n_stages = 1;
  bool empty() const { return centroids.empty(); }
  const float* at(int layer, int head) const;
};
struct CodebookSet {
  CodebookSide key, value;
};

// Bits per stored element (keys and values together), counted at `tokens` tokens of one sequence:
// total = sum over the sides of [coded (payload + metadata) + (tokens - coded) 16] / (2 tokens), a mean
// over the layers (exact layers count as coded at 16), where
// coded = coded_tokens() of window.h: what the flush rule has coded at that length, sinks excluded. The
// means of payload and metadata, and window, add up to total; metadata holds the coders' fixed bytes.
// codebook_bytes (codebooks at 2 bytes a value, static transforms at 4) stands beside.
struct BitCount {
  double key_payload = 0, value_payload = 0;      // bits per coded element
  double key_metadata = 0, value_metadata = 0;    // bits per coded element
  double window = 0;                              // mean extra bits per element due to exact tokens
  double total = 0;
  std::int64_t tokens = 0;
  std::int64_t codebook_bytes = 0;
};

class Codec;

// Layers that another codec codes.
struct LayerPart {
  std::shared_ptr<const Codec> codec;
  std::vector<int> layers;
};

class Codec {
 public:
  // ContractError if the sets do not fit the spec or the shape.
  Codec(CodecSpec spec, int n_layers, int n_kv_heads, int head_dim, TransformSet transforms,
        CodebookSet codebooks);
  // `base` in the layers that no part names. Every member is fitted to the same model, and those that code anything have
  // the same window (Error otherwise).
  Codec(std::shared_ptr<const Codec> base, const std::vector<LayerPart>& parts);
  const CodecSpec& spec() const { return spec_; }  // composed: the base's, with the window of all
  bool composed() const { return !of_layer_.empty(); }
  // Composed: the member that codes a layer; else null.
  std::shared_ptr<const Codec> member(int layer) const;
  bool exact() const;                              // nothing is coded
  int n_layers() const { return n_layers_; }
  int n_kv_heads() const { return n_kv_heads_; }
  int head_dim() const { return head_dim_; }
  const CodebookSet& codebooks() const { return codebooks_; }
  const TransformSet& transforms() const { return transforms_; }
  const HeadCoder* key(int layer, int head) const;    // nullptr: the side is exact
  const HeadCoder* value(int layer, int head) const;
  // Of a cache of exactly this many tokens.
  BitCount bits(std::int64_t tokens) const;
  // At the fullest moment of the flush period that ends at `tokens`: just after a block was flushed a cache
  // holds no exact token, and bits() there would hide the window.
  BitCount fullest_bits(std::int64_t tokens) const;

 private:
  std::int64_t table_bytes(int layers) const;  // codebooks and transforms that this many layers use
  CodecSpec spec_;
  int n_layers_, n_kv_heads_, head_dim_;
  TransformSet transforms_;
  CodebookSet codebooks_;
  std::vector<std::unique_ptr<HeadCoder>> key_, value_;  // [n_layers * n_kv_heads]
  std::vector<std::shared_ptr<const Codec>> of_layer_;   // composed: [n_layers]
};

}  // namespace vi::codec
