// Small whole files of every kind, for tests and fuzzing.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/artifact/contracts.h"
#include "core/codec/codec_io.h"
#include "core/common/error.h"
#include "core/common/half.h"
#include "core/common/rng.h"

namespace vi::test {

using namespace artifact;

inline constexpr int kLayers = 2, kHeads = 3, kQueryHeads = 6, kDim = 4, kTokens = 5, kProbes = 2;

inline std::vector<float> numbers(std::int64_t n, std::uint64_t seed, double shift = 0) {
  Rng rng(seed);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values)
    value = half_to_float(float_to_half(static_cast<float>(rng.normal() + shift)));
  return values;
}

inline void write_samples(H5File& file) {
  stamp(file, FileKind::kv_samples);
  for (const auto& [name, text] :
       {std::pair{"model", "tiny"}, {"weights_sha256", "00"}, {"tap", "post_rope"}})
    file.set_attr("/", name, text);
  file.set_attr("/", "n_layers", kLayers);
  file.set_attr("/", "n_q_heads", kQueryHeads);
  file.set_attr("/", "n_kv_heads", kHeads);
  file.set_attr("/", "head_dim", kDim);
  file.set_attr("/", "seed", -1);
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string group = fmt::format("/layer_{:02}", layer);
    for (const char* side : {"/key", "/value"})
      file.write(group + side, DType::f16, {kHeads, kTokens, kDim},
                 numbers(kHeads * kTokens * kDim, 1));
    file.write(group + "/query", DType::f16, {kQueryHeads, kProbes, kDim},
               numbers(kQueryHeads * kProbes * kDim, 2));
  }
  for (const char* name : {"/position", "/doc"})
    file.write<std::int32_t>(name, DType::i32, {kTokens}, std::vector<std::int32_t>(kTokens, 1));
  for (const char* name : {"/probe_position", "/probe_doc"})
    file.write<std::int32_t>(name, DType::i32, {kProbes}, std::vector<std::int32_t>(kProbes, 1));
}

inline void write_statistics(H5File& file) {
  stamp(file, FileKind::kv_statistics);
  for (const auto& [name, value] : {std::pair<const char*, int>{"n_layers", kLayers}, {"n_q_heads", kQueryHeads}, {"n_kv_heads", kHeads},
                                    {"head_dim", kDim}, {"sinks", 4}, {"recent", 64}})
    file.set_attr("/", name, value);
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string group = fmt::format("/layer_{:02}", layer);
    for (const char* name : {"/attention", "/sensitivity"})
      file.write(group + name, DType::f32, {kHeads, kTokens}, numbers(kHeads * kTokens, 3));
    for (const char* name : {"/query_moment", "/sensitive_moment", "/output_metric"})
      file.write(group + name, DType::f32, {kHeads, kDim, kDim}, numbers(kHeads * kDim * kDim, 4));
  }
}

inline void write_gradients(H5File& file) {
  stamp(file, FileKind::kv_gradients);
  for (const auto& [name, value] :
       {std::pair<const char*, int>{"n_layers", kLayers}, {"n_q_heads", kQueryHeads}, {"n_kv_heads", kHeads}, {"head_dim", kDim}})
    file.set_attr("/", name, value);
  for (int layer = 0; layer < kLayers; ++layer)
    for (const char* name : {"/key", "/value"})
      file.write(fmt::format("/layer_{:02}", layer) + name, DType::f32, {kHeads, kTokens, kDim}, numbers(kHeads * kTokens * kDim, 5));
  file.write<std::int32_t>("/position", DType::i32, {kTokens}, std::vector<std::int32_t>(kTokens, 1));
}

inline void write_tensors(H5File& file) {
  file.set_attr("/", "rope_theta", 10000.0);
  for (const char* name : {"/key", "/value", "/key_gradient", "/value_gradient"})
    file.write(name, DType::f32, {kHeads, kTokens, kDim}, numbers(kHeads * kTokens * kDim, 6));
  file.write("/query", DType::f32, {kQueryHeads, kTokens, kDim}, numbers(kQueryHeads * kTokens * kDim, 7));
  file.write("/output_metric", DType::f32, {kHeads, kDim, kDim}, numbers(kHeads * kDim * kDim, 8));
}

inline codec::TransformSet transforms() {
  using transform::HeadTransform;
  using transform::Step;
  codec::TransformSet set{kLayers, kHeads, kDim, {}, {}};
  for (int i = 0; i < kLayers * kHeads; ++i) {
    const auto seed = static_cast<std::uint64_t>(i);
    std::vector<float> scale = numbers(kDim, seed, 10), matrix(kDim * kDim, 0.0f), inverse = matrix;
    for (int d = 0; d < kDim; ++d) {  // a permutation with powers of two: its inverse is exact
      const float factor = d % 2 ? 0.5f : 4.0f;
      matrix[static_cast<std::size_t>(d * kDim + (d + 1) % kDim)] = factor;
      inverse[static_cast<std::size_t>((d + 1) % kDim * kDim + d)] = 1 / factor;
    }
    set.key.push_back(HeadTransform{
        kDim,
        {Step{Step::Kind::center, numbers(kDim, seed + 50), {}, {}},
         Step{Step::Kind::scale, scale, {}, {}}, Step{Step::Kind::hadamard, {}, {}, {}},
         Step{Step::Kind::scale, numbers(kDim, seed + 90, 9), {}, {}},
         Step{Step::Kind::dense, {}, matrix, inverse}}});
  }
  return set;
}

inline codec::CodebookSide book_side(int layers, int groups, int books, int bits, int dsub) {
  codec::CodebookSide side{layers, groups, books, 1 << bits, dsub, {}};
  side.centroids = numbers(std::int64_t{layers} * groups * books * (1 << bits) * dsub, 5);
  return side;
}

inline codec::CodebookFacts facts(const codec::CodebookSide& side, codec::BookScope scope,
                                  codec::BookPer per, int bits) {
  codec::CodebookFacts result{scope, per, bits, 30, UINT64_MAX - 1, 4, {}, {}};
  const auto cells = static_cast<std::size_t>(side.n_layers * side.n_groups * side.n_books);
  result.usage.assign(cells * static_cast<std::size_t>(side.ksub), 3);
  result.train_mse.assign(cells, 0.25);
  return result;
}

inline codec::CodebookSet books() {
  return {book_side(kLayers, kHeads, 1, 3, 2), book_side(1, 1, 4, 2, 1)};
}

inline void write_books(H5File& file, const std::string& group = "") {
  const codec::CodebookSet set = books();
  codec::write_codebooks(set, facts(set.key, codec::BookScope::shared, codec::BookPer::head, 3),
                         facts(set.value, codec::BookScope::subspace, codec::BookPer::model, 2),
                         {kLayers, kHeads, kDim}, file, group);
}

inline void write_codec(H5File& file) {
  stamp(file, FileKind::codec);
  for (const char* name :
       {"model", "weights_sha256", "method", "codec", "transform_key", "codebook_key"})
    file.set_attr("/", name, "x");
  codec::write_transforms(transforms(), file, "/transform");
  write_books(file, "/codebook");
}

inline void write_transformed(H5File& file) {
  stamp(file, FileKind::kv_transformed);
  for (const auto& [name, value] :
       {std::pair{"n_layers", 1}, {"n_q_heads", 6}, {"n_kv_heads", 3}, {"head_dim", 4}})
    file.set_attr("/", name, value);
  for (const char* side : {"key", "value"})
    file.write(fmt::format("/layer_00/{}", side), DType::f16, {3, 5, 4}, numbers(60, 1));
  for (const char* name : {"key/before", "key/after_1", "key/after_2", "value/before"})
    file.write(fmt::format("/outliers/{}", name), DType::f32, {1, 3, 4}, numbers(12, 1));
}

}  // namespace vi::test
