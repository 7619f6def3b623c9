#include "core/codec/coder.h"

#include <cmath>

#include "core/common/error.h"
#include "core/quant/compose/balanced_code.h"
#include "core/quant/compose/merge_code.h"
#include "core/quant/compose/outlier_code.h"
#include "core/quant/compose/residual_code.h"
#include "core/quant/compose/rope_code.h"
#include "core/quant/compose/sign_sketch.h"
#include "core/quant/compose/token_code.h"
#include "core/quant/compose/token_pool.h"
#include "core/quant/integer_code.h"

namespace vi::codec {
namespace {

using transform::HeadTransform;
using transform::Step;
using Books = std::vector<std::shared_ptr<const quant::VectorBooks>>;
using Coder = std::unique_ptr<HeadCoder>;

constexpr std::uint64_t kSketchSeed = 0x514a4c;  // fixed: no part of a codec is stored for it

quant::IntegerForm integer_form(const CodeSpec& code, int d) {
  quant::IntegerForm form;
  form.axis = code.axis == Axis::channel ? quant::GroupAxis::channel : quant::GroupAxis::token;
  form.bits = code.bits;
  form.group = code.group == 0 ? d : code.group;
  form.range = static_cast<quant::IntegerRange>(code.range);
  form.rounding = static_cast<quant::Rounding>(code.rounding);
  form.clip = static_cast<float>(code.clip);
  return form;
}
static_assert(static_cast<int>(Range::extreme) == static_cast<int>(quant::IntegerRange::extreme) &&
              static_cast<int>(Range::zero_point) == static_cast<int>(quant::IntegerRange::zero_point) &&
              static_cast<int>(RoundTo::away) == static_cast<int>(quant::Rounding::away));

Coder base_coder(const SideSpec& side, const CoderPlace& place, const HeadTransform* transform,
                 const Books& books) {
  const CodeSpec& code = side.code;
  const int d = place.head_dim;
  switch (code.kind) {
    case CodeKind::none:
      return nullptr;
    case CodeKind::integer:
      return std::make_unique<quant::IntegerCode>(d, transform, integer_form(code, d));
    case CodeKind::merge:
      return std::make_unique<quant::MergeCode>(
          d, quant::MergeForm{code.group, static_cast<int>(std::lround(code.keep * code.group)), place.key});
    case CodeKind::sketch: {
      const int signs = d * code.bits * (place.layer < code.wide_layers ? 2 : 1);
      return std::make_unique<quant::SignSketch>(
          d, transform,
          quant::SketchForm{signs, true, code.outlier_channels > 0 ? code.group : 0, code.outlier_channels, kSketchSeed});
    }
    case CodeKind::vector:
      break;
  }
  VI_CHECK(books.size() == static_cast<std::size_t>(code.stages), "{} stages of codebooks", books.size());
  const bool residual = code.stages > 1 || code.sketch > 0;
  Coder coder = std::make_unique<quant::VectorCode>(d, residual ? nullptr : transform, books[0]);
  if (!residual) return coder;
  const bool sketched = code.sketch > 0;
  if (code.stages > 1)
    coder = std::make_unique<quant::ResidualCode>(sketched ? nullptr : transform, std::move(coder),
                                                  std::make_unique<quant::VectorCode>(d, nullptr, books[1]));
  if (sketched)
    coder = std::make_unique<quant::ResidualCode>(
        transform, std::move(coder),
        std::make_unique<quant::SignSketch>(
            d, nullptr,
            quant::SketchForm{static_cast<int>(std::lround(code.sketch * d)), false, 0, 0, kSketchSeed}));
  return coder;
}

// The steps from `from` on, the last of them inside the code; `transform` is used as it is where no
// per-token step follows.
Coder with_tokens(const SideSpec& side, const CoderPlace& place, const HeadTransform* transform,
                  const Books& books) {
  const auto base = [&](const HeadTransform* own) -> Coder {
    if (side.balance.tokens == 0) return base_coder(side, place, own, books);
    return std::make_unique<quant::BalancedCode>(own, side.balance.tokens, side.balance.iterations,
                                                 base_coder(side, place, nullptr, books));
  };
  if (transform == nullptr) return base(nullptr);
  std::vector<std::size_t> tokens;
  for (std::size_t i = 0; i < transform->steps.size(); ++i)
    if (transform::per_token(transform->steps[i].kind)) tokens.push_back(i);
  if (tokens.empty()) return base(transform);
  const auto part = [&](std::size_t from, std::size_t to) {
    return HeadTransform{transform->head_dim, {transform->steps.begin() + static_cast<std::ptrdiff_t>(from),
                                               transform->steps.begin() + static_cast<std::ptrdiff_t>(to)}};
  };
  auto last = std::make_unique<HeadTransform>(part(tokens.back() + 1, transform->steps.size()));
  const HeadTransform* own = last.get();
  Coder coder = base(own);
  for (std::size_t i = tokens.size(); i-- > 0;) {
    const std::size_t from = i == 0 ? 0 : tokens[i - 1] + 1;
    coder = std::make_unique<quant::TokenCode>(part(from, tokens[i]), transform->steps[tokens[i]],
                                               side.transforms[tokens[i]].renormalise, std::move(last),
                                               std::move(coder));
  }
  return coder;
}

}  // namespace

Coder make_coder(const SideSpec& side, const CoderPlace& place, const HeadTransform* transform,
                 const Books& books, const std::vector<double>& rope) {
  if (side.code.kind == CodeKind::none) return nullptr;
  Coder coder = with_tokens(side, place, transform, books);
  const int slots = transform::outlier_count(side.outliers, place.head_dim);
  if (slots > 0) coder = std::make_unique<quant::OutlierCode>(transform, slots, std::move(coder));
  if (side.tap == Tap::pre_rope)
    coder = std::make_unique<quant::RopeCode>(rope, static_cast<std::size_t>(place.sinks), std::move(coder));
  if (side.pool.tokens > 0)
    coder = std::make_unique<quant::TokenPool>(
        quant::PoolForm{place.layer < side.pool.skip_layers ? 0 : side.pool.tokens, side.pool.auxiliary,
                        side.pool.group, place.key},
        std::move(coder));
  return coder;
}

}  // namespace vi::codec
