#include "core/codec/codec.h"

#include <cmath>
#include <map>

#include "core/codec/window.h"
#include "core/common/error.h"
#include "core/quant/integer_code.h"
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
  }
  return "?";
}

Step::Kind expected_step(TransformKind kind) {
  switch (kind) {
    case TransformKind::center:
      return Step::Kind::center;
    case TransformKind::smooth:
      return Step::Kind::scale;
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
      if (step.kind == Step::Kind::hadamard) continue;
      const bool dense = step.kind == Step::Kind::dense;
      const std::vector<float>& values = dense ? step.matrix : step.vector;
      const std::size_t size = static_cast<std::size_t>(d) * (dense ? d : 1);
      if (values.size() != size || (dense && step.inverse.size() != size))
        fail<ContractError>("{}: expected {} values in step {}, found {}", place, size, s,
                            values.size());
      for (const float value : values)
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
  const std::size_t size =
      static_cast<std::size_t>(layers) * groups * n_books * code.ksub() * code.dsub;
  if (books.n_layers != layers || books.n_groups != groups || books.n_books != n_books ||
      books.ksub != code.ksub() || books.dsub != code.dsub || books.centroids.size() != size)
    fail<ContractError>(
        "{} codebooks: expected [{}, {}, {}, 1, {}, {}], found [{}, {}, {}, 1, {}, {}] with {} "
        "values",
        name, layers, groups, n_books, code.ksub(), code.dsub, books.n_layers, books.n_groups,
        books.n_books, books.ksub, books.dsub, books.centroids.size());
}

std::vector<std::unique_ptr<HeadCoder>> make_coders(const CodeSpec& code, int n_layers,
                                                    int n_kv_heads, int d,
                                                    const std::vector<HeadTransform>& transforms,
                                                    const CodebookSide& books) {
  std::vector<std::unique_ptr<HeadCoder>> coders(static_cast<std::size_t>(n_layers) * n_kv_heads);
  std::map<const float*, std::shared_ptr<const quant::VectorBooks>>
      made;  // one a codebook, however shared
  for (std::size_t i = 0; i < coders.size(); ++i) {
    const HeadTransform* transform = transforms.empty() ? nullptr : &transforms[i];
    if (code.kind == CodeKind::integer) {
      const auto axis =
          code.axis == Axis::channel ? quant::GroupAxis::channel : quant::GroupAxis::token;
      coders[i] = std::make_unique<quant::IntegerCode>(d, transform, axis, code.bits, code.group);
    } else if (code.kind == CodeKind::vector) {
      const float* centroids =
          books.at(static_cast<int>(i) / n_kv_heads, static_cast<int>(i) % n_kv_heads);
      auto& shared = made[centroids];
      if (!shared) shared = quant::make_books(code.dsub, code.bits, books.n_books, centroids);
      coders[i] = std::make_unique<quant::VectorCode>(d, transform, shared);
    }
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
  return centroids.data() + (l * n_groups + g) * n_books * ksub * dsub;
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
  key_ =
      make_coders(spec_.key.code, n_layers, n_kv_heads, head_dim, transforms_.key, codebooks_.key);
  value_ = make_coders(spec_.value.code, n_layers, n_kv_heads, head_dim, transforms_.value,
                       codebooks_.value);
}

const HeadCoder* Codec::key(int layer, int head) const {
  return key_[static_cast<std::size_t>(layer) * n_kv_heads_ + head].get();
}
const HeadCoder* Codec::value(int layer, int head) const {
  return value_[static_cast<std::size_t>(layer) * n_kv_heads_ + head].get();
}

BitCount Codec::bits(std::int64_t tokens) const {
  VI_CHECK(tokens > 0, "bits at {} tokens", tokens);
  BitCount count;
  count.tokens = tokens;
  const auto side = [&](const HeadCoder* coder, bool key, double& payload, double& metadata) {
    payload = coder ? coder->payload_bits() : 16.0;
    metadata = coder ? coder->metadata_bits() : 0.0;
    if (!coder) return;
    const double coded =
        static_cast<double>(coded_tokens(spec_.window, key, tokens, coder->seal_tokens()));
    const double exact = 1.0 - coded / static_cast<double>(tokens);
    count.window += 0.5 * exact * (16.0 - payload - metadata);
  };
  side(key(0, 0), true, count.key_payload, count.key_metadata);
  side(value(0, 0), false, count.value_payload, count.value_metadata);
  count.total =
      0.5 * (count.key_payload + count.value_payload + count.key_metadata + count.value_metadata) +
      count.window;
  count.codebook_bytes = static_cast<std::int64_t>(2 * (codebooks_.key.centroids.size() +
                                                        codebooks_.value.centroids.size())) +
                         transform_bytes(transforms_.key) + transform_bytes(transforms_.value);
  return count;
}

BitCount Codec::fullest_bits(std::int64_t tokens) const {
  BitCount fullest = bits(tokens);
  const std::int64_t period = std::max(spec_.window.recent, 1);
  for (std::int64_t t = std::max<std::int64_t>(1, tokens - period + 1); t < tokens; ++t)
    if (const BitCount here = bits(t); here.total > fullest.total) fullest = here;
  fullest.tokens = tokens;
  return fullest;
}

}  // namespace vi::codec
