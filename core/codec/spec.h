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

enum class Tap { post_rope };
constexpr auto enum_names(Tap) { return std::array{std::pair{std::string_view("post_rope"), Tap::post_rope}}; }

using transform::Statistic;
using transform::TransformKind;
using transform::TransformSpec;

enum class CodeKind { none, vector, integer };
constexpr auto enum_names(CodeKind) {
  using P = std::pair<std::string_view, CodeKind>;
  return std::array{P{"none", CodeKind::none}, P{"vector", CodeKind::vector}, P{"integer", CodeKind::integer}};
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
// (an error of a key's score does). A tenth of the mean is added to each.
enum class Weights { uniform, attention, sensitivity };
constexpr auto enum_names(Weights) {
  using P = std::pair<std::string_view, Weights>;
  return std::array{P{"uniform", Weights::uniform}, P{"attention", Weights::attention},
                    P{"sensitivity", Weights::sensitivity}};
}

enum class Axis { channel, token };
constexpr auto enum_names(Axis) {
  using P = std::pair<std::string_view, Axis>;
  return std::array{P{"channel", Axis::channel}, P{"token", Axis::token}};
}

// `none` keeps the side exact (16 bits). `vector`: sub-vectors of dsub dimensions, ksub = 2^bits centroids;
// scope says whether the sub-spaces of a head share one codebook, `per` over what else it is shared.
// `integer`: asymmetric uniform integers; axis channel = per channel over `group` consecutive tokens (KIVI
// keys), axis token = per token over `group` consecutive channels (KIVI values).
struct CodeSpec {
  CodeKind kind = CodeKind::none;
  int dsub = 4;
  int bits = 8;
  BookScope scope = BookScope::shared;
  BookPer per = BookPer::head;
  Weights weights = Weights::uniform;
  Axis axis = Axis::token;
  int group = 32;
  template <class V>
  void visit(V& v) {
    v("kind", kind, "none | vector | integer");
    v("dsub", dsub, "vector: dimensions of a sub-vector");
    v("bits", bits, "bits of one code, 1..16 (integer: 1..8)");
    v("scope", scope, "vector: one codebook for all sub-spaces (shared) or one each (subspace)");
    v("per", per, "vector: one codebook per KV head, layer or model");
    v("weights", weights, "vector: uniform | attention | sensitivity, of points in k-means");
    v("axis", axis, "integer: channel (groups of tokens) or token (groups of channels)");
    v("group", group, "integer: tokens or channels of a group");
  }
  static CodeSpec from_scalar(std::string_view word);  // "none", "d4b8"
  void check(const config::Mark& mark) const;
  int ksub() const { return 1 << bits; }
};

struct SideSpec {
  Tap tap = Tap::post_rope;
  std::vector<TransformSpec> transforms;
  CodeSpec code;
  template <class V>
  void visit(V& v) {
    v("tap", tap, "post_rope");
    v("transforms", transforms, "list of steps, in order");
    v("code", code, "the code");
  }
};

enum class Flush { block, sliding };
constexpr auto enum_names(Flush) {
  using P = std::pair<std::string_view, Flush>;
  return std::array{P{"block", Flush::block}, P{"sliding", Flush::sliding}};
}

// What stays exact. `sliding`: always the newest `recent` tokens. `block`: tokens gather until `recent` of
// them are exact, then all are coded at once (so between 0 and recent-1 stay exact; MILLION, KIVI keys).
// The first `sinks` tokens of the sequence are always exact.
struct WindowSpec {
  int recent = 128;
  int sinks = 0;
  Flush key_flush = Flush::block;
  Flush value_flush = Flush::block;
  template <class V>
  void visit(V& v) {
    v("recent", recent, "newest tokens kept exact");
    v("sinks", sinks, "first tokens kept exact");
    v("key_flush", key_flush, "block | sliding");
    v("value_flush", value_flush, "block | sliding");
  }
  void check(const config::Mark& mark) const;
};

struct CodecSpec {
  SideSpec key, value;
  WindowSpec window;
  template <class V>
  void visit(V& v) {
    v("key", key, "the key side");
    v("value", value, "the value side");
    v("window", window, "what stays exact");
  }
  bool exact() const { return key.code.kind == CodeKind::none && value.code.kind == CodeKind::none; }
  void check(const config::Mark& mark) const;  // per-channel groups against the window
};

// Mixes that cannot work for a model's head_dim: ConfigError at `mark`, naming the two choices.
void check_against_model(const CodecSpec& spec, int head_dim, const config::Mark& mark);

}  // namespace vi::codec
