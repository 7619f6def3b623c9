// Token merging (Chelsea / CentroidKV, arXiv 2506.11418). Of each chunk the tokens, then the clusters made
// of them, alternate into two sets; every member of the first is linked to the member of the second whose
// key is most like its own (cosine), the best links are merged, until `keep` clusters are left. A cluster
// is the mean of its members, keys and values alike. What the paper corrects by adding log(count) to a
// cluster's logit is here a cluster that stands once for each of its tokens: the softmax is the same.
// Block of `chunk` tokens: centroids [keep][head_dim] as halves, then each token's cluster,
// ceil(log2 keep) bits.
#pragma once

#include "core/quant/compose/block_coder.h"

namespace vi::quant {

struct MergeForm {
  int chunk = 64;
  int keep = 8;      // clusters of a chunk, 1..chunk
  bool keys = true;  // this coder's rows are the keys; else it wants them
};

// The cluster of each of n tokens, numbered in order of their first token; at most `keep` of them.
std::vector<int> merge_tokens(const float* keys, std::size_t n, int head_dim, int keep);

class MergeCode final : public BlockCoder {
 public:
  MergeCode(int head_dim, const MergeForm& form);
  double payload_bits() const override { return 16.0 * form_.keep / form_.chunk; }
  double metadata_bits() const override { return 8.0 * index_bytes() / (form_.chunk * head_dim_); }
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
  int index_bits() const;
  std::size_t index_bytes() const { return (form_.chunk * index_bits() + 7) / 8; }
  // Centroids [clusters, head_dim] as halves, and each token's cluster.
  std::vector<std::uint16_t> centroids(const float* rows, std::size_t n,
                                       const std::vector<int>& cluster) const;
  MergeForm form_;
};

}  // namespace vi::quant
