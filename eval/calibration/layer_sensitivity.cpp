#include "eval/calibration/layer_sensitivity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "core/common/error.h"
#include "eval/calibration/logit_loss.h"
#include "eval/modes/modes.h"

namespace vi::eval {

LayerSensitivity::LayerSensitivity(const model::Decoder& decoder, std::shared_ptr<const codec::Codec> codec,
                                   std::vector<std::vector<std::int32_t>> windows)
    : decoder_(decoder), codec_(std::move(codec)), windows_(std::move(windows)) {
  VI_CHECK(!windows_.empty() && !codec_->composed(), "a plain codec and text");
  const at::NoGradGuard guard;
  for (const std::vector<std::int32_t>& ids : windows_) {
    ExactAttention attention;
    exact_.push_back(decoder_.forward(ids, 0, attention));
  }
}

double LayerSensitivity::of(int layer) const {
  const at::NoGradGuard guard;
  codec::CodecSpec none;
  none.window = codec_->spec().window;
  const auto exact = std::make_shared<codec::Codec>(none, codec_->n_layers(), codec_->n_kv_heads(), codec_->head_dim(),
                                                    codec::TransformSet{codec_->n_layers(), codec_->n_kv_heads(), codec_->head_dim(), {}, {}},
                                                    codec::CodebookSet{});
  const auto one = std::make_shared<codec::Codec>(exact, std::vector<codec::LayerPart>{{codec_, {layer}}});
  double sum = 0;
  for (std::size_t i = 0; i < windows_.size(); ++i) {
    WindowAttention attention(one);
    sum += divergence(decoder_, exact_[i], decoder_.forward(windows_[i], 0, attention));
  }
  return sum / static_cast<double>(windows_.size());
}

std::vector<int> most_sensitive(const std::vector<double>& sensitivity, int count) {
  std::vector<int> order(sensitivity.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return sensitivity[static_cast<std::size_t>(a)] > sensitivity[static_cast<std::size_t>(b)]; });
  order.resize(static_cast<std::size_t>(std::clamp(count, 0, static_cast<int>(order.size()))));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace vi::eval
