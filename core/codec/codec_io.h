// transform.h5 and codebook.h5 <-> the structs of core/codec/codec.h. Formats: docs/artifacts.md.
// Both files are checked against their contract on reading and on writing. `group` is where the
// content starts inside the file: "" for the artifacts, "/transform" and "/codebook" in an exported
// codec file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/artifact/h5.h"
#include "core/codec/codec.h"

namespace vi::codec {

// What k-means leaves beside the centroids, one set a side.
struct CodebookFacts {
  BookScope scope = BookScope::shared;
  BookPer per = BookPer::head;
  int bits = 0;
  int iterations = 0;
  std::uint64_t seed = 0;
  std::int64_t dead_centroids = 0;
  std::vector<std::int64_t>
      usage;  // [n_layers, n_groups, n_books, 1, ksub]: training points of each centroid
  std::vector<double>
      train_mse;  // [n_layers, n_groups, n_books, 1]: mean squared error per element
};

// The codec's shape, kept as root attributes.
struct ModelShape {
  int n_layers = 0, n_kv_heads = 0, head_dim = 0;
};

void write_transforms(const TransformSet& transforms, artifact::H5File& file,
                      const std::string& group = "");
TransformSet read_transforms(const artifact::H5File& file, const std::string& group = "");

// A side with no centroids is left out.
void write_codebooks(const CodebookSet& books, const CodebookFacts& key, const CodebookFacts& value,
                     const ModelShape& shape, artifact::H5File& file,
                     const std::string& group = "");
CodebookSet read_codebooks(const artifact::H5File& file, const std::string& group = "");
CodebookFacts read_codebook_facts(const artifact::H5File& file, const std::string& side,
                                  const std::string& group = "");
ModelShape read_shape(const artifact::H5File& file, const std::string& group = "");

}  // namespace vi::codec
