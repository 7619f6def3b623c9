// What a KV codec is, as settings: codec = tap -> transforms -> code -> window (ARCHITECTURE.md, "The one
// idea"). A published method is one YAML file of these keys under experiments/methods.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/options.h"
#include "core/transform/spec.h"

namespace vi::codec {

// pre_rope: the code sees keys before rotation; they are turned back and forth by their position
// (core/quant/compose/rope_code.h).
enum class Tap { post_rope, pre_rope };
constexpr auto enum_names(Tap) {
  using P = std::pair<std::string_view, Tap>;
  return std::array{P{"post_rope", Tap::post_rope}, P{"pre_rope", Tap::pre_rope}};
}

using transform::Statistic;
using transform::TransformKind;
using transform::TransformSpec;

enum class CodeKind { none, vector, integer, sketch, merge };
constexpr auto enum_names(CodeKind) {
  using P = std::pair<std::string_view, CodeKind>;
  return std::array{P{"none", CodeKind::none}, P{"vector", CodeKind::vector}, P{"integer", CodeKind::integer},
                    P{"sketch", CodeKind::sketch}, P{"merge", CodeKind::merge}};
}

enum class BookScope { shared, subspace };
constexpr auto enum_names(BookScope) {
  using P = std::pair<std::string_view, BookScope>;
  return std::array{P{"shared", BookScope::shared}, P{"subspace", BookScope::subspace}};
}

enum class BookPer { head, layer, model };
constexpr auto enum_names(BookPer) {
  using P = std::pair<std::string_view, BookPer>;
  return std::array{P{"head", BookPer::head}, P{"layer", BookPer::layer}, P{"model", BookPer::model}};
}

// What a training point counts for in k-means: `attention` = the sum over the queries that find its token
// coded of the squared attention weight (an error of a value reaches the output with that weight);
// `sensitivity` = the same times the squared distance, behind W_o, of its value from the query's output
// (an error of a key's score does); `fisher` = the sum over a sub-vector's channels of the log-loss's squared
// gradient (KVQuant, CQ). A tenth of the mean is added to each.
enum class Weights { uniform, attention, sensitivity, fisher };
constexpr auto enum_names(Weights) {
  using P = std::pair<std::string_view, Weights>;
  return std::array{P{"uniform", Weights::uniform}, P{"attention", Weights::attention},
                    P{"sensitivity", Weights::sensitivity}, P{"fisher", Weights::fisher}};
}

enum class Axis { channel, token };
constexpr auto enum_names(Axis) {
  using P = std::pair<std::string_view, Axis>;
  return std::array{P{"channel", Axis::channel}, P{"token", Axis::token}};
}

// Where a codebook's training points come from: the samples, or N(0, 1) whatever the model (universal).
enum class Points { samples, normal };
constexpr auto enum_names(Points) {
  using P = std::pair<std::string_view, Points>;
  return std::array{P{"samples", Points::samples}, P{"normal", Points::normal}};
}

// What centroids are rounded to; e5m2 is exact in f16.
enum class Centroids { f16, e5m2 };
constexpr auto enum_names(Centroids) {
  using P = std::pair<std::string_view, Centroids>;
  return std::array{P{"f16", Centroids::f16}, P{"e5m2", Centroids::e5m2}};
}

// Of integers: core/quant/integer_code.h.
enum class Range { minimum, zero_point, symmetric, extreme };
constexpr auto enum_names(Range) {
  using P = std::pair<std::string_view, Range>;
  return std::array{P{"minimum", Range::minimum}, P{"zero_point", Range::zero_point},
                    P{"symmetric", Range::symmetric}, P{"extreme", Range::extreme}};
}
enum class RoundTo { even, away };
constexpr auto enum_names(RoundTo) {
  using P = std::pair<std::string_view, RoundTo>;
  return std::array{P{"even", RoundTo::even}, P{"away", RoundTo::away}};
}

// `none` keeps the side exact (16 bits). `vector`: sub-vectors of dsub dimensions, ksub = 2^bits centroids;
// scope says whether the sub-spaces of a head share one codebook, `per` over what else it is shared.
// `integer`: uniform integers; axis channel = per channel over `group` consecutive tokens (KIVI keys),
// axis token = per token over `group` consecutive channels (KIVI values; 0: all of the head's).
// `sketch`: `bits` signs of random projections per channel (QJL). `merge`: of each chunk of `group` tokens
// the fraction `keep` is left as means of the others (Chelsea / CentroidKV).
struct CodeSpec {
  CodeKind kind = CodeKind::none;
  int dsub = 4;
  int bits = 8;
  BookScope scope = BookScope::shared;
  BookPer per = BookPer::head;
  Weights weights = Weights::uniform;
  Axis axis = Axis::token;
  int group = 32;
  int stages = 1;
  double sketch = 0;
  Points points = Points::samples;
  Centroids centroids = Centroids::f16;
  bool q_norm = false;
  bool inliers = false;
  Range range = Range::minimum;
  RoundTo rounding = RoundTo::even;
  double clip = 1;
  int outlier_channels = 0;
  int wide_layers = 0;
  double keep = 0.125;
  template <class V>
  void visit(V& v) {
    v("kind", kind, "none | vector | integer | sketch | merge");
    v("dsub", dsub, "vector: dimensions of a sub-vector");
    v("bits", bits, "bits of one code, 1..16 (integer: 1..8)");
    v("scope", scope, "vector: one codebook for all sub-spaces (shared) or one each (subspace)");
    v("per", per, "vector: one codebook per KV head, layer or model");
    v("weights", weights, "vector: uniform | attention | sensitivity, of points in k-means");
    v("axis", axis, "integer: channel (groups of tokens) or token (groups of channels)");
    v("group", group, "integer: tokens or channels of a group; sketch, merge: tokens of a group");
    v("stages", stages, "vector: 2 codes what the first codebook leaves by a second one of the same size");
    v("sketch", sketch, "vector: signs per channel of a random sketch of what the codebooks leave (0: none)");
    v("points", points, "vector: what codebooks are trained on: samples | normal (N(0, 1), universal)");
    v("centroids", centroids, "vector: what centroids are rounded to: f16 | e5m2");
    v("q_norm", q_norm, "vector, dsub 1: stretch the levels to the samples' mean and deviation");
    v("inliers", inliers, "vector, dsub 1: train on the values inside [-1, 1] only");
    v("range", range, "integer: minimum | zero_point | symmetric | extreme");
    v("rounding", rounding, "integer: even (against the stored scale) | away (half away from zero)");
    v("clip", clip, "integer: minimum and maximum are multiplied by this first");
    v("outlier_channels", outlier_channels, "sketch: channels of a group with a sketch of their own");
    v("wide_layers", wide_layers, "sketch: this many first layers have twice the signs");
    v("keep", keep, "merge: fraction of the tokens kept");
  }
  static CodeSpec from_scalar(std::string_view word);  // "none", "d4b8"
  void check(const config::Mark& mark) const;
  int ksub() const { return 1 << bits; }
};

// Blocks of `tokens` tokens are evened out along both axes before they are coded (KVarN); 0: not.
struct BalanceSpec {
  int tokens = 0;
  int iterations = 8;
  template <class V>
  void visit(V& v) {
    v("tokens", tokens, "tokens of a block; 0: none");
    v("iterations", iterations, "rounds over channels and tokens");
  }
};

// Tokens of small keys stay exact (OTT; core/quant/compose/token_pool.h); 0 tokens: no pool.
struct PoolSpec {
  int tokens = 0;
  int auxiliary = 32;
  int group = 128;
  int skip_layers = 0;
  template <class V>
  void visit(V& v) {
    v("tokens", tokens, "tokens in the pool of a KV head; 0: none");
    v("auxiliary", auxiliary, "tokens pushed out of the pool after which tracing stops");
    v("group", group, "tokens coded at once");
    v("skip_layers", skip_layers, "first layers without a pool");
  }
};

struct SideSpec {
  Tap tap = Tap::post_rope;
  std::vector<TransformSpec> transforms;
  CodeSpec code;
  double outliers = 0;
  BalanceSpec balance;
  PoolSpec pool;
  template <class V>
  void visit(V& v) {
    v("tap", tap, "post_rope | pre_rope (keys)");
    v("transforms", transforms, "list of steps, in order");
    v("code", code, "the code");
    v("outliers", outliers, "fraction of each token's values kept exact where they leave [-1, 1] after the transforms");
    v("balance", balance, "evening out of blocks along both axes");
    v("pool", pool, "tokens of small keys kept exact");
  }
};

enum class Flush { block, sliding };
constexpr auto enum_names(Flush) {
  using P = std::pair<std::string_view, Flush>;
  return std::array{P{"block", Flush::block}, P{"sliding", Flush::sliding}};
}

// What stays exact. `sliding`: always the newest `recent` tokens. `block`: tokens gather until `recent` of
// them are exact, then the oldest `step` of them are coded at once, all of them unless `step` says otherwise (so between
// recent - step and recent-1 stay exact; MILLION, KIVI keys: between 0 and recent-1).
// The first `sinks` tokens of the sequence are always exact.
struct WindowSpec {
  int recent = 128;
  int sinks = 0;
  int step = 0;
  Flush key_flush = Flush::block;
  Flush value_flush = Flush::block;
  template <class V>
  void visit(V& v) {
    v("recent", recent, "newest tokens kept exact");
    v("sinks", sinks, "first tokens kept exact");
    v("step", step, "flush block: tokens coded at once; 0: recent");
    v("key_flush", key_flush, "block | sliding");
    v("value_flush", value_flush, "block | sliding");
  }
  int block() const { return step > 0 ? step : recent; }
  void check(const config::Mark& mark) const;
};

// Layers that are not coded at all, counted from both ends of the model.
struct ExactLayers {
  int first = 0, last = 0;
  template <class V>
  void visit(V& v) {
    v("first", first, "first layers kept exact");
    v("last", last, "last layers kept exact");
  }
  bool holds(int layer, int n_layers) const { return layer < first || layer >= n_layers - last; }
};

struct CodecSpec {
  SideSpec key, value;
  WindowSpec window;
  ExactLayers exact_layers;
  template <class V>
  void visit(V& v) {
    v("key", key, "the key side");
    v("value", value, "the value side");
    v("window", window, "what stays exact");
    v("exact_layers", exact_layers, "layers that are not coded");
  }
  bool exact() const { return key.code.kind == CodeKind::none && value.code.kind == CodeKind::none; }
  void check(const config::Mark& mark) const;  // choices that clash
};

// Tokens that a side codes at once: HeadCoder::seal_tokens() of its coders.
int seal_tokens(const SideSpec& side);

// Mixes that cannot work for a model's head_dim: ConfigError at `mark`, naming the two choices.
void check_against_model(const CodecSpec& spec, int head_dim, const config::Mark& mark);

}  // namespace vi::codec
