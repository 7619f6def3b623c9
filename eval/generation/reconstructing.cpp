// Models whose caches hold reconstructions: of one sequence (step_model.h) and of several (batch_model.h).
#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "core/codec/window.h"
#include "core/common/error.h"
#include "core/model/model_config.h"
#include "eval/generation/batch_model.h"
#include "eval/modes/device_modes.h"
#include "eval/generation/step_model.h"

namespace vi::eval {
namespace {

using Tables = std::shared_ptr<const DeviceCodec>;  // null: exact

Tables tables_of(const model::Decoder& decoder, std::shared_ptr<const codec::Codec> codec) {
  return codec ? std::make_shared<const DeviceCodec>(std::move(codec), decoder.options().device) : nullptr;
}

class ReconstructingModel final : public StepModel, public model::AttentionHook {
 public:
  ReconstructingModel(const model::Decoder& decoder, Tables tables)
      : decoder_(decoder), codec_(std::move(tables)) {
    layers_.resize(static_cast<std::size_t>(decoder.config().n_layers));
  }
  const model::ModelConfig& config() const override { return decoder_.config(); }
  void reset() override {
    for (Layer& layer : layers_) layer = {};
  }
  at::Tensor prefill(std::span<const std::int32_t> prompt) override {
    VI_CHECK(layers_[0].len == 0, "prefill into a cache of {} tokens", layers_[0].len);
    const at::Tensor hidden = decoder_.forward(prompt, 0, *this);
    return decoder_.logits(hidden.narrow(0, hidden.size(0) - 1, 1));
  }
  at::Tensor step(std::int32_t id) override {
    return decoder_.logits(decoder_.forward(std::span(&id, 1), layers_[0].len, *this));
  }
  std::int64_t len(int layer = 0) const { return layers_[static_cast<std::size_t>(layer)].len; }
  at::Tensor attend(int index, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override {
    Layer& layer = layers_[static_cast<std::size_t>(index)];
    VI_CHECK(layer.len == first, "decode at position {} on a cache of {} tokens", first, layer.len);
    const std::int64_t n = k.size(1);
    append(layer.key, k, first);
    append(layer.value, v, first);
    layer.len += n;
    // A prompt attends exactly, then is coded; a token is coded where the rule says so, then attends.
    at::Tensor out;
    if (first == 0) out = causal_attention(q, k, v);
    code(index, true, layer.key, layer.len, layer.coded_key);
    code(index, false, layer.value, layer.len, layer.coded_value);
    if (first == 0) return out;
    VI_CHECK(n == 1, "decode takes one token at a time, not {}", n);
    const std::int64_t kv = k.size(0), d = k.size(2);
    const at::Tensor rows = q.to(at::kFloat).reshape({kv, -1, d});
    const at::Tensor scores = at::bmm(rows, layer.key.narrow(1, 0, layer.len).transpose(1, 2)) /
                              std::sqrt(static_cast<double>(d));
    return at::bmm(at::softmax(scores, -1), layer.value.narrow(1, 0, layer.len))
        .reshape({1, -1})
        .to(q.scalar_type());
  }

 private:
  struct Layer {
    at::Tensor key, value;  // f32 [n_kv_heads, capacity, head_dim]
    std::int64_t len = 0, coded_key = 0, coded_value = 0;
  };

  static void append(at::Tensor& rows, const at::Tensor& more, std::int64_t len) {
    const std::int64_t n = more.size(1), capacity = rows.defined() ? rows.size(1) : 0;
    if (len + n > capacity) {
      const at::Tensor grown = at::zeros({more.size(0), len + n + (len + n) / 4 + 64, more.size(2)},
                                         more.options().dtype(at::kFloat));
      if (len > 0) grown.narrow(1, 0, len).copy_(rows.narrow(1, 0, len));
      rows = grown;
    }
    rows.narrow(1, len, n).copy_(more);
  }

  void code(int index, bool key, at::Tensor& rows, std::int64_t len, std::int64_t& coded) const {
    if (!codec_) return;
    const DeviceSide& side = key ? codec_->of(index).key() : codec_->of(index).value();
    if (!side.coded) return;
    const codec::WindowSpec& window = codec_->codec().spec().window;
    const std::int64_t now = codec::coded_tokens(window, key, len, side.seal);
    if (now == coded) return;
    at::Tensor part = rows.narrow(1, window.sinks + coded, now - coded);
    const codec::HeadCoder* coder =
        key ? codec_->codec().key(index, 0) : codec_->codec().value(index, 0);
    if (coder && (coder->sequential() || coder->wants_keys()))
      fail("{} whose codes depend on other tokens (pool, merge) need --device cpu",
           key ? "keys" : "values");
    part.copy_(codec_->reconstruct(index, key, part, 0, window.sinks + coded));
    coded = now;
  }

  const model::Decoder& decoder_;
  Tables codec_;
  std::vector<Layer> layers_;
};

// The linear layers of all sequences together, attention by each one's own ReconstructingModel.
class ReconstructingBatch final : public BatchModel, private model::AttentionHook {
 public:
  ReconstructingBatch(const model::Decoder& decoder, const Tables& tables, int slots) : decoder_(decoder) {
    for (int i = 0; i < slots; ++i) slots_.push_back(std::make_unique<ReconstructingModel>(decoder, tables));
  }
  const model::ModelConfig& config() const override { return decoder_.config(); }
  int slots() const override { return static_cast<int>(slots_.size()); }
  at::Tensor prefill(int slot, std::span<const std::int32_t> prompt) override {
    slots_.at(static_cast<std::size_t>(slot))->reset();
    return slots_[static_cast<std::size_t>(slot)]->prefill(prompt);
  }
  at::Tensor step(std::span<const SlotToken> tokens) override {
    std::vector<std::int32_t> ids;
    std::vector<std::int64_t> positions;
    stepping_.clear();
    for (const SlotToken& token : tokens) {
      stepping_.push_back(slots_.at(static_cast<std::size_t>(token.slot)).get());
      ids.push_back(token.id);
      positions.push_back(stepping_.back()->len());
    }
    return decoder_.logits(decoder_.forward_each(ids, positions, *this));
  }
  void release(int slot) override { slots_.at(static_cast<std::size_t>(slot))->reset(); }

 private:
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t) override {
    std::vector<at::Tensor> rows;
    for (std::size_t i = 0; i < stepping_.size(); ++i) {
      const auto row = [&](const at::Tensor& x) { return x.narrow(1, static_cast<std::int64_t>(i), 1).contiguous(); };
      ReconstructingModel& model = *stepping_[i];
      rows.push_back(model.attend(layer, row(q), row(k), row(v), model.len(layer)));
    }
    return at::cat(rows);
  }

  const model::Decoder& decoder_;
  std::vector<std::unique_ptr<ReconstructingModel>> slots_;
  std::vector<ReconstructingModel*> stepping_;  // a row each of the step under way
};

}  // namespace

std::unique_ptr<StepModel> make_reconstructing_model(const model::Decoder& decoder,
                                                     std::shared_ptr<const codec::Codec> codec) {
  return std::make_unique<ReconstructingModel>(decoder, tables_of(decoder, std::move(codec)));
}

std::unique_ptr<BatchModel> make_reconstructing_batch(const model::Decoder& decoder,
                                                      std::shared_ptr<const codec::Codec> codec, int slots) {
  return std::make_unique<ReconstructingBatch>(decoder, tables_of(decoder, std::move(codec)), slots);
}

}  // namespace vi::eval
