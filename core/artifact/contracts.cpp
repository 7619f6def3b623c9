// The table of contracts.h.
#include "core/artifact/contracts.h"

#include "core/common/error.h"

namespace vi::artifact {
namespace {

using A = AttrRule;
using D = DatasetRule;
constexpr AttrKind kText = AttrKind::text, kWhole = AttrKind::integer;

constexpr A kSampleAttrs[] = {
    {"/", "model", kText, true, "name of the model"},
    {"/", "weights_sha256", kText, true, "hash of its weights"},
    {"/", "tap", kText, true, "where keys were taken: post_rope"},
    {"/", "n_layers", kWhole, true, "layers"},
    {"/", "n_q_heads", kWhole, true, "query heads"},
    {"/", "n_kv_heads", kWhole, true, "key and value heads"},
    {"/", "head_dim", kWhole, true, "channels of a head"},
    {"/", "seed", kWhole, true, "of the sample"},
};

constexpr D kSampleData[] = {
    {"/{layer}/key", DType::f16, {"n_kv_heads", "n_tokens", "head_dim"}, true, true, "keys"},
    {"/{layer}/value", DType::f16, {"n_kv_heads", "n_tokens", "head_dim"}, true, true, "values"},
    {"/{layer}/query", DType::f16, {"n_q_heads", "n_probe", "head_dim"}, true, true, "queries"},
    {"/{layer}/key_pre_rope",
     DType::f16,
     {"n_kv_heads", "n_tokens", "head_dim"},
     false,
     true,
     "keys before rotation"},
    {"/{layer}/attention_mass",
     DType::f32,
     {"n_kv_heads", "n_tokens"},
     false,
     true,
     "sum over queries of the squared attention weight"},
    {"/position", DType::i32, {"n_tokens"}, true, true, "position of each token in its sequence"},
    {"/doc", DType::i32, {"n_tokens"}, true, true, "document of each token"},
    {"/probe_position", DType::i32, {"n_probe"}, true, true, "position of each query's token"},
    {"/probe_doc", DType::i32, {"n_probe"}, true, true, "document of each query's token"},
};

constexpr A kTransformAttrs[] = {
    {"/", "n_layers", kWhole, true, "layers"},
    {"/", "n_kv_heads", kWhole, true, "key and value heads"},
    {"/", "head_dim", kWhole, true, "channels of a head"},
    {"/", "key_steps", kText, true, "comma list of center, smooth, hadamard, basis, permute, token_norm, token_range"},
    {"/", "value_steps", kText, true, "the same for values"},
    {"/", "key_floored", kWhole, true, "dead channels and singular directions, of all heads"},
    {"/", "value_floored", kWhole, true, "the same for values"},
};

constexpr D kTransformData[] = {
    {"/{side}/center{n}", DType::f32, {"n_layers", "n_kv_heads", "head_dim"}, true, true, "mean"},
    {"/{side}/permute{n}",
     DType::f32,
     {"n_layers", "n_kv_heads", "head_dim"},
     true,
     true,
     "channel that comes to each place"},
    {"/{side}/token_range{n}",
     DType::f32,
     {"n_layers", "n_kv_heads", "n_numbers"},
     true,
     true,
     "values of a token outside its range"},
    {"/rope_frequencies", DType::f64, {"n_frequencies"}, false, true, "radians a token, of each pair"},
    {"/{side}/smooth{n}",
     DType::f32,
     {"n_layers", "n_kv_heads", "head_dim"},
     true,
     true,
     "divisor"},
    {"/{side}/basis{n}",
     DType::f32,
     {"n_layers", "n_kv_heads", "head_dim", "head_dim"},
     true,
     true,
     "A of y = x A"},
    {"/{side}/basis_inverse{n}",
     DType::f32,
     {"n_layers", "n_kv_heads", "head_dim", "head_dim"},
     true,
     true,
     "its inverse"},
};

constexpr A kTransformedAttrs[] = {
    {"/", "n_layers", kWhole, true, "layers"},
    {"/", "n_q_heads", kWhole, true, "query heads"},
    {"/", "n_kv_heads", kWhole, true, "key and value heads"},
    {"/", "head_dim", kWhole, true, "channels of a head"},
};

constexpr D kTransformedData[] = {
    {"/{layer}/key",
     DType::f16,
     {"n_kv_heads", "n_tokens", "head_dim"},
     true,
     true,
     "transformed keys"},
    {"/{layer}/value",
     DType::f16,
     {"n_kv_heads", "n_tokens", "head_dim"},
     true,
     true,
     "transformed values"},
    {"/outliers/{side}/before",
     DType::f32,
     {"n_layers", "n_kv_heads", "head_dim"},
     true,
     true,
     "largest magnitude of each channel before any step"},
    {"/outliers/{side}/after_{i}",
     DType::f32,
     {"n_layers", "n_kv_heads", "head_dim"},
     false,
     true,
     "the same after step i, from 1"},
};

constexpr A kCodebookAttrs[] = {
    {"/", "n_layers", kWhole, true, "layers"},
    {"/", "n_kv_heads", kWhole, true, "key and value heads"},
    {"/", "head_dim", kWhole, true, "channels of a head"},
    {"/{side}", "dsub", kWhole, true, "channels of a sub-space"},
    {"/{side}", "bits", kWhole, true, "bits of a code: ksub = 2^bits"},
    {"/{side}", "scope", kText, true, "shared | subspace"},
    {"/{side}", "per", kText, true, "head | layer | model"},
    {"/{side}", "iterations", kWhole, true, "of k-means, at most"},
    {"/{side}", "seed", kWhole, true, "of k-means"},
    {"/{side}", "dead_centroids", kWhole, true, "centroids without a training point"},
};

constexpr D kCodebookData[] = {
    {"/{side}/centroids",
     DType::f32,
     {"side.layers", "side.n_groups", "side.n_books", "side.n_stages", "side.ksub", "side.dsub"},
     true,
     true,
     "every value exact in f16"},
    {"/{side}/usage",
     DType::i64,
     {"side.layers", "side.n_groups", "side.n_books", "side.n_stages", "side.ksub"},
     true,
     true,
     "training points of each centroid"},
    {"/{side}/train_mse",
     DType::f64,
     {"side.layers", "side.n_groups", "side.n_books", "side.n_stages"},
     true,
     true,
     "mean squared error per element"},
};

constexpr A kCodecAttrs[] = {
    {"/", "model", kText, true, "name of the model"},
    {"/", "weights_sha256", kText, true, "hash of its weights"},
    {"/", "method", kText, true, "name of the method"},
    {"/", "codec", kText, true, "its settings as canonical JSON"},
    {"/", "transform_key", kText, true, "key of the transform artifact"},
    {"/", "codebook_key", kText, true, "key of the codebook artifact"},
};

constexpr A kStatisticsAttrs[] = {
    {"/", "n_layers", kWhole, true, "layers"},
    {"/", "n_q_heads", kWhole, true, "query heads"},
    {"/", "n_kv_heads", kWhole, true, "key and value heads"},
    {"/", "head_dim", kWhole, true, "channels of a head"},
    {"/", "sinks", kWhole, true, "first tokens that a query finds exact"},
    {"/", "recent", kWhole, true, "newest tokens that a query finds exact"},
};

constexpr D kStatisticsData[] = {
    {"/{layer}/attention", DType::f32, {"n_kv_heads", "n_tokens"}, true, true, "sum of squared attention weights"},
    {"/{layer}/sensitivity",
     DType::f32,
     {"n_kv_heads", "n_tokens"},
     true,
     true,
     "the same, times the squared distance of value and output behind W_o"},
    {"/{layer}/query_moment", DType::f32, {"n_kv_heads", "head_dim", "head_dim"}, true, true, "mean of q q^T"},
    {"/{layer}/sensitive_moment",
     DType::f32,
     {"n_kv_heads", "head_dim", "head_dim"},
     true,
     true,
     "the same, queries weighted by their sensitivity"},
    {"/{layer}/output_metric", DType::f32, {"n_kv_heads", "head_dim", "head_dim"}, true, true, "sum of W_o^T W_o over heads"},
};

constexpr A kGradientAttrs[] = {
    {"/", "n_layers", kWhole, true, "layers"},
    {"/", "n_q_heads", kWhole, true, "query heads"},
    {"/", "n_kv_heads", kWhole, true, "key and value heads"},
    {"/", "head_dim", kWhole, true, "channels of a head"},
};

constexpr D kGradientData[] = {
    {"/{layer}/key", DType::f32, {"n_kv_heads", "n_tokens", "head_dim"}, true, true, "gradient of the log-loss, post-RoPE"},
    {"/{layer}/value", DType::f32, {"n_kv_heads", "n_tokens", "head_dim"}, true, true, "gradient of the log-loss"},
    {"/position", DType::i32, {"n_tokens"}, true, true, "position in its sequence"},
};

constexpr A kTensorAttrs[] = {
    {"/", "rope_theta", AttrKind::real, false, "base of the rotation of the keys, for methods that see them before it"},
};

constexpr D kTensorData[] = {
    {"/key", DType::f32, {"n_kv_heads", "n_tokens", "head_dim"}, true, true, "keys, post-RoPE, at positions 0, 1, ..."},
    {"/value", DType::f32, {"n_kv_heads", "n_tokens", "head_dim"}, true, true, "values"},
    {"/query", DType::f32, {"n_q_heads", "n_tokens", "head_dim"}, false, true, "queries, post-RoPE, of the same tokens"},
    {"/output_metric", DType::f32, {"n_kv_heads", "head_dim", "head_dim"}, false, true, "sum of W^T W over the slices of W_o"},
    {"/key_gradient", DType::f32, {"n_kv_heads", "n_tokens", "head_dim"}, false, true, "gradient of the log-loss, post-RoPE"},
    {"/value_gradient", DType::f32, {"n_kv_heads", "n_tokens", "head_dim"}, false, true, "gradient of the log-loss"},
};

constexpr FileRule kRules[] = {
    {FileKind::kv_samples, "kv_samples", 1, kSampleAttrs, kSampleData},
    {FileKind::transform, "transform", 2, kTransformAttrs, kTransformData},
    {FileKind::kv_transformed, "kv_transformed", 1, kTransformedAttrs, kTransformedData},
    {FileKind::codebook, "codebook", 2, kCodebookAttrs, kCodebookData},
    {FileKind::codec, "codec", 1, kCodecAttrs, {}},
    {FileKind::kv_statistics, "kv_statistics", 1, kStatisticsAttrs, kStatisticsData},
    {FileKind::kv_gradients, "kv_gradients", 1, kGradientAttrs, kGradientData},
    {FileKind::kv_tensors, "kv_tensors", 0, kTensorAttrs, kTensorData},
};

}  // namespace

std::span<const FileRule> file_rules() { return kRules; }

const FileRule& rule_of(FileKind kind) { return kRules[static_cast<int>(kind)]; }

void stamp(H5File& file, FileKind kind, const std::string& group) {
  const std::string root = group.empty() ? "/" : group;
  if (!group.empty()) file.create_group(group);
  file.set_attr(root, "format", "vecinfer." + std::string(rule_of(kind).name));
  file.set_attr(root, "format_version", rule_of(kind).version);
}

}  // namespace vi::artifact
