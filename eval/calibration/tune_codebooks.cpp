#include "eval/calibration/tune_codebooks.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/common/bytes.h"
#include "core/common/error.h"
#include "core/common/rng.h"
#include "eval/modes/device_codec.h"
#include "eval/calibration/logit_loss.h"
#include "eval/modes/modes.h"

namespace vi::eval {
namespace {

constexpr int kStepsACheckpoint = 16;
constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEpsilon = 1e-12;

// One side's centroids as start + unit x offset, a tensor for each layer that has books of its own.
struct Parameters {
  std::vector<at::Tensor> start, unit, offset, first, second;  // [n_groups, n_books, ksub, dsub]

  void make(const codec::CodebookSide& side, at::Device device) {
    if (side.empty()) return;
    const std::int64_t size = std::int64_t{1} * side.n_groups * side.n_books * side.ksub * side.dsub;
    for (int l = 0; l < side.n_layers; ++l) {
      at::Tensor books = at::empty({side.n_groups, side.n_books, side.ksub, side.dsub}, at::kFloat);
      std::copy_n(side.centroids.begin() + l * size, size, books.data_ptr<float>());
      start.push_back(books.to(device));
      unit.push_back(start.back().square().mean(at::IntArrayRef{2, 3}, true).sqrt());
      offset.push_back(at::zeros_like(start.back()).set_requires_grad(true));
      first.push_back(at::zeros_like(start.back()));
      second.push_back(at::zeros_like(start.back()));
    }
  }
  at::Tensor books(int layer) const {
    const auto l = std::min(static_cast<std::size_t>(layer), start.size() - 1);  // one for all layers
    return start[l] + unit[l] * offset[l];
  }
  void step(int t, double rate) {
    for (std::size_t l = 0; l < offset.size(); ++l) {
      const at::Tensor g = offset[l].grad();
      if (!g.defined()) continue;
      const at::NoGradGuard guard;
      first[l].mul_(kBeta1).add_(g, 1 - kBeta1);
      second[l].mul_(kBeta2).addcmul_(g, g, 1 - kBeta2);
      const at::Tensor size = (second[l] / (1 - std::pow(kBeta2, t))).sqrt_().add_(kEpsilon);
      offset[l].addcdiv_(first[l], size, -rate / (1 - std::pow(kBeta1, t)));
      offset[l].mutable_grad() = at::Tensor();
    }
  }
  // What steps change, as bytes and back.
  void put(ByteWriter& out) const {
    for (const auto* list : {&offset, &first, &second})
      for (const at::Tensor& x : *list) {
        const at::Tensor flat = x.detach().to(at::kCPU).contiguous();
        out.put(std::span(flat.const_data_ptr<float>(), static_cast<std::size_t>(flat.numel())));
      }
  }
  void take(ByteReader& in) {
    const at::NoGradGuard guard;
    for (auto* list : {&offset, &first, &second})
      for (at::Tensor& x : *list) {
        std::vector<float> values;
        in.take(values);
        VI_CHECK(std::ssize(values) == x.numel(), "a checkpoint of other codebooks");
        x.copy_(at::from_blob(values.data(), x.sizes(), at::kFloat));
      }
  }
  void write(codec::CodebookSide& side) const {
    if (start.empty()) return;
    const at::NoGradGuard guard;
    float* out = side.centroids.data();
    for (std::size_t l = 0; l < start.size(); ++l) {
      const at::Tensor books = (start[l] + unit[l] * offset[l]).clamp(-65504, 65504).to(at::kHalf).to(at::kCPU, at::kFloat).contiguous();
      out = std::copy_n(books.const_data_ptr<float>(), books.numel(), out);
    }
  }
};

// A codec whose codebooks are tuned.
struct Member {
  std::shared_ptr<const codec::Codec> codec;
  Parameters key, value;
};

// Mode `window` with gradients for the centroids; keys and values pass theirs straight through the code.
class TuneAttention final : public model::AttentionHook {
 public:
  TuneAttention(const DeviceCodec& codec, const std::vector<Member>& members, const TuneSettings& settings)
      : codec_(codec), members_(members), settings_(settings) {}

  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t first) override {
    VI_CHECK(first == 0, "position {}", first);
    const std::int64_t nq = q.size(0), n = q.size(1), d = q.size(2), kv = k.size(0), group = nq / kv;
    const at::Tensor token = at::arange(n, q.options().dtype(at::kLong));
    const at::Tensor row = token.unsqueeze(1), column = token.unsqueeze(0);
    const at::Tensor coded = (column >= settings_.sinks).logical_and(column <= row - settings_.recent);
    const at::Tensor rows = q.reshape({kv, group * n, d}) / std::sqrt(static_cast<double>(d));
    const auto scores_of = [&](const at::Tensor& keys) { return at::bmm(rows, keys.transpose(1, 2)).view({kv, group, n, n}); };
    at::Tensor scores = scores_of(k);
    const DeviceCodec& tables = codec_.of(layer);
    const Member& member = member_of(tables);
    if (tables.key().coded) scores = at::where(coded, scores_of(through(tables.key(), member.key, layer, k)), scores);
    scores = scores.masked_fill(column > row, -std::numeric_limits<float>::infinity());
    const at::Tensor p = at::softmax(scores, -1);
    const auto sum_of = [&](const at::Tensor& weights, const at::Tensor& values) {
      return at::bmm(weights.reshape({kv, group * n, n}), values);
    };
    const at::Tensor o = tables.value().coded
                             ? sum_of(p * coded, through(tables.value(), member.value, layer, v)) + sum_of(p * coded.logical_not(), v)
                             : sum_of(p, v);
    return o.view({nq, n, d}).transpose(0, 1).reshape({n, nq * d});
  }

 private:
  // rows [heads, n, d] coded and back.
  static at::Tensor through(const DeviceSide& side, const Parameters& parameters, int layer, const at::Tensor& x) {
    const std::int64_t heads = x.size(0), m = x.size(2) / side.dsub, ksub = std::int64_t{1} << side.code_bits;
    const at::Tensor books = parameters.books(layer).expand({heads, m, ksub, side.dsub}).reshape({heads * m, ksub, side.dsub});
    return code_and_back(side, layer, x, books) + (x - x.detach());
  }

  const Member& member_of(const DeviceCodec& tables) const {
    static const Member none;  // an exact layer
    for (const Member& member : members_)
      if (member.codec.get() == &tables.codec()) return member;
    return none;
  }

  const DeviceCodec& codec_;
  const std::vector<Member>& members_;
  const TuneSettings& settings_;
};

// Mean over the rows of KL(full precision || coded) in nats; with `learn` its gradient goes into the parameters.
// exact: hidden states in full precision, made where they are not there yet.
double divergence(const model::Decoder& decoder, TuneAttention& hook, const std::vector<std::int32_t>& ids, at::Tensor& exact, bool learn) {
  if (!exact.defined()) {
    const at::NoGradGuard guard;
    ExactAttention attention;
    exact = decoder.forward(ids, 0, attention);
  }
  const at::AutoGradMode mode(learn);
  return eval::divergence(decoder, exact, decoder.forward(ids, 0, hook));
}

}  // namespace

std::vector<std::shared_ptr<const codec::Codec>> tuned_members(const std::shared_ptr<const codec::Codec>& codec) {
  if (!codec->composed()) return {codec};
  std::vector<std::shared_ptr<const codec::Codec>> members;
  for (int layer = 0; layer < codec->n_layers(); ++layer) {
    const auto member = codec->member(layer);
    const bool coded = !member->codebooks().key.empty() || !member->codebooks().value.empty();
    if (coded && std::find(members.begin(), members.end(), member) == members.end()) members.push_back(member);
  }
  return members;
}

TuneResult tune_codebooks(const model::Decoder& decoder, std::shared_ptr<const codec::Codec> codec,
                          const std::vector<std::vector<std::int32_t>>& windows,
                          const std::vector<std::vector<std::int32_t>>& held_out, const TuneSettings& settings,
                          Progress& progress, const TuneCheckpoint& checkpoint) {
  VI_CHECK(decoder.options().dtype == at::kFloat && !windows.empty() && !held_out.empty(), "tuning needs f32 and text");
  const DeviceCodec tables(codec, decoder.options().device);
  bool any = false;
  for (int layer = 0; layer < codec->n_layers(); ++layer)
    for (const DeviceSide* side : {&tables.of(layer).key(), &tables.of(layer).value()}) {
      any |= side->vector;
      if (side->coded && !side->vector) fail("tuning codebooks: both sides must be exact or plain vector codes in every layer");
    }
  if (!any) fail("tuning codebooks: neither side has a plain vector code");
  std::vector<Member> members;
  TuneResult result;
  for (const auto& member : tuned_members(codec)) {
    members.push_back({member, {}, {}});
    members.back().key.make(member->codebooks().key, decoder.options().device);
    members.back().value.make(member->codebooks().value, decoder.options().device);
    result.books.push_back(member->codebooks());
  }
  TuneAttention hook(tables, members, settings);
  std::vector<at::Tensor> exact(windows.size()), exact_held_out(held_out.size());
  const auto on_held_out = [&] {
    double sum = 0;
    for (std::size_t i = 0; i < held_out.size(); ++i) sum += divergence(decoder, hook, held_out[i], exact_held_out[i], false);
    return sum / static_cast<double>(held_out.size());
  };
  int done = 0;
  const auto saved = checkpoint.load ? checkpoint.load() : std::nullopt;
  if (saved) {
    ByteReader in(*saved);
    in.take(done);
    in.take(result.before);
    for (Member& member : members) member.key.take(in), member.value.take(in);
  } else {
    result.before = on_held_out();
  }
  Rng random(settings.seed);
  std::vector<std::size_t> order;
  for (int t = 1; t <= settings.steps; ++t) {
    if (order.empty()) {
      for (std::size_t i = 0; i < windows.size(); ++i) order.push_back(i);
      for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
    }
    const std::size_t window = order.back();
    order.pop_back();
    if (t <= done) {  // the order of windows is drawn alike
      progress.advance(1);
      continue;
    }
    divergence(decoder, hook, windows[window], exact[window], true);
    const double rate = settings.rate * 0.5 * (1 + std::cos(std::numbers::pi * (t - 1) / settings.steps));
    for (Member& member : members) member.key.step(t, rate), member.value.step(t, rate);
    if (checkpoint.save && t % kStepsACheckpoint == 0) {
      ByteWriter out;
      out.put(t);
      out.put(result.before);
      for (const Member& member : members) member.key.put(out), member.value.put(out);
      checkpoint.save(out.bytes());
    }
    progress.advance(1);
  }
  result.after = on_held_out();
  result.kept = result.after < result.before;
  for (std::size_t i = 0; result.kept && i < members.size(); ++i) {
    members[i].key.write(result.books[i].key);
    members[i].value.write(result.books[i].value);
  }
  return result;
}

}  // namespace vi::eval
