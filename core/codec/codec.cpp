#include "core/codec/codec.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/codec/coder.h"
#include "core/codec/window.h"
#include "core/common/error.h"
#include "core/config/options.h"
#include "core/quant/vector_code.h"

namespace vi::codec {
namespace {

using transform::HeadTransform;
using transform::Step;

std::string_view step_name(Step::Kind kind) {
  switch (kind) {
    case Step::Kind::center:
      return "center";
    case Step::Kind::scale:
      return "scale";
    case Step::Kind::hadamard:
      return "hadamard";
    case Step::Kind::dense:
      return "dense";
    case Step::Kind::permute:
      return "permute";
    case Step::Kind::token_norm:
      return "token_norm";
    case Step::Kind::token_range:
      return "token_range";
  }
  return "?";
}

Step::Kind expected_step(TransformKind kind) {
  switch (kind) {
    case TransformKind::center:
      return Step::Kind::center;
    case TransformKind::smooth:
      return Step::Kind::scale;
    case TransformKind::rotation:
      return Step::Kind::dense;
    case TransformKind::permute:
      return Step::Kind::permute;
    case TransformKind::token_norm:
      return Step::Kind::token_norm;
    case TransformKind::token_range:
      return Step::Kind::token_range;
    case TransformKind::metric:
      return Step::Kind::dense;
    case TransformKind::hadamard:
      break;
  }
  return Step::Kind::hadamard;
}

void check_transforms(const std::vector<HeadTransform>& transforms, const SideSpec& side,
                      const char* name, int n_layers, int n_kv_heads, int d) {
  const std::size_t heads = static_cast<std::size_t>(n_layers) * n_kv_heads;
  if (transforms.size() != heads && !(transforms.empty() && side.transforms.empty()))
    fail<ContractError>("{} transforms: expected {} layers x {} KV heads, found {}", name, n_layers,
                        n_kv_heads, transforms.size());
  for (std::size_t i = 0; i < transforms.size(); ++i) {
    const HeadTransform& t = transforms[i];
    const std::string place =
        fmt::format("{} transform of layer {} head {}", name, i / n_kv_heads, i % n_kv_heads);
    if (t.head_dim != d)
      fail<ContractError>("{}: expected head_dim {}, found {}", place, d, t.head_dim);
    if (t.steps.size() != side.transforms.size())
      fail<ContractError>("{}: expected {} steps, found {}", place, side.transforms.size(),
                          t.steps.size());
    for (std::size_t s = 0; s < t.steps.size(); ++s) {
      const Step& step = t.steps[s];
      const Step::Kind kind = expected_step(side.transforms[s].kind);
      if (step.kind != kind)
        fail<ContractError>("{}: expected step {} to be {}, found {}", place, s, step_name(kind),
                            step_name(step.kind));
      if (step.kind == Step::Kind::hadamard || step.kind == Step::Kind::token_norm) continue;
      if (step.kind == Step::Kind::dense) {
        const std::size_t size = static_cast<std::size_t>(d) * d;
        if (step.matrix.size() != size || step.inverse.size() != size)
          fail<ContractError>("{}: expected [{}, {}] matrices in step {}", place, d, d, s);
        for (const auto* matrix : {&step.matrix, &step.inverse})
          for (const float value : *matrix)
            if (!std::isfinite(value)) fail<ContractError>("{}: step {} (dense) holds {}", place, s, value);
        continue;
      }
      const std::size_t expected = step.kind == Step::Kind::token_range ? 1 : d;
      if (step.vector.size() != expected)
        fail<ContractError>("{}: expected {} values in step {}, found {}", place, expected, s,
                            step.vector.size());
      if (step.kind == Step::Kind::permute) {
        std::vector<char> seen(d, 0);
        for (const float value : step.vector) {
          const bool channel = value >= 0 && value < d && value == std::floor(value);
          if (!channel || seen[static_cast<int>(value)]++)
            fail<ContractError>("{}: step {} is no order of {} channels", place, s, d);
        }
      }
      for (const float value : step.vector)
        if (!std::isfinite(value) || (step.kind == Step::Kind::scale && value <= 0))
          fail<ContractError>("{}: step {} ({}) holds {}", place, s, step_name(step.kind), value);
    }
  }
}

void check_books(const CodebookSide& books, const CodeSpec& code, const char* name, int n_layers,
                 int n_kv_heads, int d) {
  if (code.kind != CodeKind::vector) return;
  const int layers = code.per == BookPer::model ? 1 : n_layers;
  const int groups = code.per == BookPer::head ? n_kv_heads : 1;
  const int n_books = code.scope == BookScope::shared ? 1 : d / code.dsub;
  const std::size_t size = static_cast<std::size_t>(layers) * groups * n_books * code.stages *
                           code.ksub() * code.dsub;
  if (books.n_stages != code.stages || books.n_layers != layers || books.n_groups != groups || books.n_books != n_books ||
      books.ksub != code.ksub() || books.dsub != code.dsub || books.centroids.size() != size)
    fail<ContractError>(
        "{} codebooks: expected [{}, {}, {}, {}, {}, {}], found [{}, {}, {}, {}, {}, {}] with {} "
        "values",
        name, layers, groups, n_books, code.stages, code.ksub(), code.dsub, books.n_layers,
        books.n_groups, books.n_books, books.n_stages, books.ksub, books.dsub,
        books.centroids.size());
}

// The codebooks of one stage: [n_books, ksub, dsub] out of [n_books, n_stages, ksub, dsub].
std::shared_ptr<const quant::VectorBooks> stage_books(const CodeSpec& code, const CodebookSide& books,
                                                      const float* centroids, int stage) {
  if (books.n_stages == 1) return quant::make_books(code.dsub, code.bits, books.n_books, centroids);
  const std::size_t size = static_cast<std::size_t>(books.ksub) * books.dsub;
  std::vector<float> one;
  for (int m = 0; m < books.n_books; ++m) {
    const float* from = centroids + (static_cast<std::size_t>(m) * books.n_stages + stage) * size;
    one.insert(one.end(), from, from + size);
  }
  return quant::make_books(code.dsub, code.bits, books.n_books, one.data());
}

std::vector<std::unique_ptr<HeadCoder>> make_coders(const CodecSpec& spec, bool key, int n_layers,
                                                    int n_kv_heads, int d,
                                                    const std::vector<HeadTransform>& transforms,
                                                    const CodebookSide& books,
                                                    const std::vector<double>& rope) {
  const SideSpec& side = key ? spec.key : spec.value;
  std::vector<std::unique_ptr<HeadCoder>> coders(static_cast<std::size_t>(n_layers) * n_kv_heads);
  std::map<const float*, std::vector<std::shared_ptr<const quant::VectorBooks>>>
      made;  // one a codebook, however shared
  for (std::size_t i = 0; i < coders.size(); ++i) {
    const int layer = static_cast<int>(i) / n_kv_heads, head = static_cast<int>(i) % n_kv_heads;
    if (spec.exact_layers.holds(layer, n_layers)) continue;
    std::vector<std::shared_ptr<const quant::VectorBooks>> stages;
    if (side.code.kind == CodeKind::vector) {
      auto& shared = made[books.at(layer, head)];
      if (shared.empty())
        for (int stage = 0; stage < side.code.stages; ++stage)
          shared.push_back(stage_books(side.code, books, books.at(layer, head), stage));
      stages = shared;
    }
    coders[i] = make_coder(side, {key, layer, d, spec.window.sinks},
                           transforms.empty() ? nullptr : &transforms[i], stages, rope);
  }
  return coders;
}

std::int64_t transform_bytes(const std::vector<HeadTransform>& transforms) {
  std::int64_t values = 0;
  for (const HeadTransform& t : transforms)
    for (const Step& step : t.steps)
      values += static_cast<std::int64_t>(step.vector.size() + step.matrix.size());
  return values * 4;
}

}  // namespace

const float* CodebookSide::at(int layer, int head) const {
  const std::size_t l = n_layers == 1 ? 0 : layer, g = n_groups == 1 ? 0 : head;
  return centroids.data() + (l * n_groups + g) * n_books * n_stages * ksub * dsub;
}

Codec::Codec(CodecSpec spec, int n_layers, int n_kv_heads, int head_dim, TransformSet transforms,
             CodebookSet codebooks)
    : spec_(std::move(spec)),
      n_layers_(n_layers),
      n_kv_heads_(n_kv_heads),
      head_dim_(head_dim),
      transforms_(std::move(transforms)),
      codebooks_(std::move(codebooks)) {
  VI_CHECK(n_layers > 0 && n_kv_heads > 0 && head_dim > 0, "{} layers, {} KV heads, head_dim {}",
           n_layers, n_kv_heads, head_dim);
  check_against_model(spec_, head_dim, {});
  check_transforms(transforms_.key, spec_.key, "key", n_layers, n_kv_heads, head_dim);
  check_transforms(transforms_.value, spec_.value, "value", n_layers, n_kv_heads, head_dim);
  check_books(codebooks_.key, spec_.key.code, "key", n_layers, n_kv_heads, head_dim);
  check_books(codebooks_.value, spec_.value.code, "value", n_layers, n_kv_heads, head_dim);
  for (const auto& [name, side] : {std::pair("key", &spec_.key), std::pair("value", &spec_.value)})
    if (side->tap == Tap::pre_rope && transforms_.rope.size() != static_cast<std::size_t>(head_dim) / 2)
      fail<ContractError>("{} transforms: tap pre_rope needs {} RoPE frequencies, found {}", name,
                          head_dim / 2, transforms_.rope.size());
  key_ = make_coders(spec_, true, n_layers, n_kv_heads, head_dim, transforms_.key, codebooks_.key,
                     transforms_.rope);
  value_ = make_coders(spec_, false, n_layers, n_kv_heads, head_dim, transforms_.value,
                       codebooks_.value, transforms_.rope);
}

Codec::Codec(std::shared_ptr<const Codec> base, const std::vector<LayerPart>& parts)
    : spec_(base->spec_),
      n_layers_(base->n_layers_),
      n_kv_heads_(base->n_kv_heads_),
      head_dim_(base->head_dim_),
      of_layer_(static_cast<std::size_t>(base->n_layers_), base) {
  const Codec* coded = base->exact() ? nullptr : base.get();
  for (const LayerPart& part : parts) {
    const Codec& c = *part.codec;
    VI_CHECK(!c.composed() && c.n_layers_ == n_layers_ && c.n_kv_heads_ == n_kv_heads_ && c.head_dim_ == head_dim_,
             "a part of another model's shape, or one that is composed itself");
    if (!c.exact()) {
      VI_CHECK(!coded || config::to_json(c.spec_.window) == config::to_json(coded->spec_.window), "parts with different windows");
      coded = &c;
    }
    for (const int layer : part.layers) {
      VI_CHECK(layer >= 0 && layer < n_layers_ && of_layer_[static_cast<std::size_t>(layer)] == base, "layer {} of {}, or one that has its part",
               layer, n_layers_);
      of_layer_[static_cast<std::size_t>(layer)] = part.codec;
    }
  }
  if (coded) spec_.window = coded->spec_.window;
}

std::shared_ptr<const Codec> Codec::member(int layer) const {
  return composed() ? of_layer_.at(static_cast<std::size_t>(layer)) : nullptr;
}

bool Codec::exact() const {
  return composed() ? std::all_of(of_layer_.begin(), of_layer_.end(), [](const auto& codec) { return codec->exact(); }) : spec_.exact();
}

std::int64_t Codec::table_bytes(int layers) const {
  std::int64_t bytes = 0;
  for (const CodebookSide* side : {&codebooks_.key, &codebooks_.value})
    if (!side->empty()) bytes += 2 * std::ssize(side->centroids) / side->n_layers * (side->n_layers == 1 ? 1 : layers);
  for (const auto* transforms : {&transforms_.key, &transforms_.value}) bytes += transform_bytes(*transforms) * layers / n_layers_;
  return bytes;
}

const HeadCoder* Codec::key(int layer, int head) const {
  if (composed()) return of_layer_[static_cast<std::size_t>(layer)]->key(layer, head);
  return key_[static_cast<std::size_t>(layer) * n_kv_heads_ + head].get();
}
const HeadCoder* Codec::value(int layer, int head) const {
  if (composed()) return of_layer_[static_cast<std::size_t>(layer)]->value(layer, head);
  return value_[static_cast<std::size_t>(layer) * n_kv_heads_ + head].get();
}

BitCount Codec::bits(std::int64_t tokens) const {
  VI_CHECK(tokens > 0, "bits at {} tokens", tokens);
  BitCount count;
  count.tokens = tokens;
  const auto side = [&](const HeadCoder* coder, bool key, double& payload, double& metadata) {
    const double share = 1.0 / n_layers_;
    if (!coder) {
      payload += 16.0 * share;
      return;
    }
    const double coded =
        static_cast<double>(coded_tokens(spec_.window, key, tokens, coder->seal_tokens()));
    const double exact = 1.0 - coded / static_cast<double>(tokens);
    const double p = coder->payload_bits();
    double m = coder->metadata_bits();
    if (coded > 0) m += 8.0 * static_cast<double>(coder->fixed_bytes()) / (coded * head_dim_);
    payload += p * share;
    metadata += m * share;
    count.window += 0.5 * exact * (16.0 - p - m) * share;
  };
  for (int layer = 0; layer < n_layers_; ++layer) {
    side(key(layer, 0), true, count.key_payload, count.key_metadata);
    side(value(layer, 0), false, count.value_payload, count.value_metadata);
  }
  count.total =
      0.5 * (count.key_payload + count.value_payload + count.key_metadata + count.value_metadata) +
      count.window;
  std::map<const Codec*, int> layers;
  for (const auto& codec : of_layer_) ++layers[codec.get()];
  if (!composed()) layers[this] = n_layers_;
  for (const auto& [codec, n] : layers) count.codebook_bytes += codec->table_bytes(n);
  return count;
}

BitCount Codec::fullest_bits(std::int64_t tokens) const {
  BitCount fullest = bits(tokens);
  // A sliding window waits for a seal at most.
  std::int64_t period = 1;
  const auto wait_of = [&](const CodecSpec& spec) {
    for (const bool key : {true, false}) {
      const SideSpec& side = key ? spec.key : spec.value;
      if (side.code.kind == CodeKind::none) continue;
      const bool block = (key ? spec_.window.key_flush : spec_.window.value_flush) == Flush::block;
      period = std::max<std::int64_t>(period, block ? std::max(spec_.window.recent, seal_tokens(side)) : seal_tokens(side));
    }
  };
  if (!composed()) wait_of(spec_);
  for (const auto& member : of_layer_) wait_of(member->spec_);
  for (std::int64_t t = std::max<std::int64_t>(1, tokens - period + 1); t < tokens; ++t)
    if (const BitCount here = bits(t); here.total > fullest.total) fullest = here;
  fullest.tokens = tokens;
  return fullest;
}

}  // namespace vi::codec
