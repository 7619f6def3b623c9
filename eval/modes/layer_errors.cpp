#include "eval/modes/layer_errors.h"

#include "core/codec/codec.h"
#include "core/codec/train.h"
#include "core/decoder/decoder.h"
#include "eval/modes/modes.h"

namespace vi::eval {
namespace {

at::Tensor float_rows(const at::Tensor& x) { return x.to(at::kCPU, at::kFloat).contiguous(); }

// Runs the exact model and, beside it, each layer's attention on coded keys and values. Sums are
// sequential: the number of threads changes no byte.
class ErrorsAttention final : public model::AttentionHook {
 public:
  explicit ErrorsAttention(std::shared_ptr<const codec::Codec> codec)
      : codec_(std::move(codec)),
        coded_(codec_),
        key(static_cast<std::size_t>(codec_->n_layers())),
        value(key),
        output(key.size(),
               std::vector<codec::ErrorSums>(static_cast<std::size_t>(codec_->n_kv_heads()))) {}

  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t first) override {
    const auto l = static_cast<std::size_t>(layer);
    const auto n = static_cast<std::size_t>(k.size(1));
    for (int head = 0; head < codec_->n_kv_heads(); ++head) {
      const at::Tensor keys = float_rows(k.select(0, head)), values = float_rows(v.select(0, head));
      const auto* rows = keys.const_data_ptr<float>();
      if (const codec::HeadCoder* coder = codec_->key(layer, head))
        key[l] += codec::reconstruction_error(*coder, rows, n, rows);
      if (const codec::HeadCoder* coder = codec_->value(layer, head))
        value[l] += codec::reconstruction_error(*coder, values.const_data_ptr<float>(), n, rows);
    }
    at::Tensor exact = exact_.attend(layer, q, k, v, first);
    const at::Tensor a = float_rows(exact), b = float_rows(coded_.attend(layer, q, k, v, first));
    const auto group = static_cast<std::size_t>(
        a.size(1) / codec_->n_kv_heads());  // channels of one KV head's queries
    for (std::size_t i = 0; i < static_cast<std::size_t>(a.numel()); ++i) {
      codec::ErrorSums& sums = output[l][i % static_cast<std::size_t>(a.size(1)) / group];
      const double x = a.const_data_ptr<float>()[i], difference = x - b.const_data_ptr<float>()[i];
      sums.error += difference * difference;
      sums.energy += x * x;
    }
    return exact;
  }

 private:
  std::shared_ptr<const codec::Codec> codec_;
  ExactAttention exact_;
  AllAttention coded_;

 public:
  std::vector<codec::ErrorSums> key, value;
  std::vector<std::vector<codec::ErrorSums>> output;
};

}  // namespace

LayerErrors layer_errors(const model::Decoder& decoder, std::shared_ptr<const codec::Codec> codec,
                         std::span<const std::int32_t> ids) {
  ErrorsAttention hook(std::move(codec));
  decoder.forward(ids, 0, hook);
  LayerErrors errors;
  for (std::size_t l = 0; l < hook.key.size(); ++l) {
    errors.key.push_back(hook.key[l].relative());
    errors.value.push_back(hook.value[l].relative());
    errors.output.emplace_back();
    for (const codec::ErrorSums& sums : hook.output[l])
      errors.output.back().push_back(sums.relative());
  }
  return errors;
}

}  // namespace vi::eval
