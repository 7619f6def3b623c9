#include "cuda/bench/gpu_kivi.h"

#include <cmath>

#include "cuda/kivi/layout.h"
#include "cuda/torch/ops.h"

namespace vi::cuda {

KiviCase::KiviCase(const at::Tensor& q, const at::Tensor& out, const at::Tensor& kv_len, std::int64_t tokens,
                   int n_kv_heads, const Device& device)
    : q_(q), tokens_(tokens) {
  const std::int64_t batch = q.size(0), head_dim = q.size(2), blocks = (tokens + kivi::kBlock - 1) / kivi::kBlock;
  p_.batch = static_cast<int>(batch), p_.n_q_heads = static_cast<int>(q.size(1)), p_.n_kv_heads = n_kv_heads;
  p_.head_dim = static_cast<int>(head_dim), p_.n_blocks = static_cast<int>(blocks);
  p_.scale = 1.f / std::sqrt(static_cast<float>(head_dim));
  p_.stream = current_stream(q.device());
  records_ = at::empty({batch, n_kv_heads, blocks, kivi::record_words(p_.head_dim)}, q.options().dtype(at::kInt));
  auto* records = reinterpret_cast<std::uint32_t*>(records_.data_ptr<int>());
  for (std::int64_t b = 0; b < batch; ++b) {
    const at::Tensor key = at::randn({n_kv_heads, tokens, head_dim}, q.options()), value = at::randn_like(key);
    kivi_encode(key.const_data_ptr(), value.const_data_ptr(), records + b * records_.stride(0), n_kv_heads,
                static_cast<int>(tokens), p_.head_dim, Dtype::f16, p_.stream);
  }
  p_.q = q.const_data_ptr(), p_.out = out.data_ptr(), p_.kv_len = kv_len.const_data_ptr<int>();
  p_.records = records;
  p_.num_splits = kivi_splits(p_.batch, p_.n_q_heads, n_kv_heads, p_.n_blocks, device.n_sms);
  workspace_ = at::zeros({static_cast<std::int64_t>(kivi_workspace_bytes(p_))}, q.options().dtype(at::kByte));
  p_.workspace = workspace_.data_ptr();
}

at::Tensor KiviCase::wanted() const {
  const std::int64_t d = p_.head_dim, n = p_.n_blocks, groups = d / kivi::kBlock;
  const at::Tensor record = records_[p_.batch - 1][p_.n_kv_heads - 1];  // [blocks, 6 head_dim]
  // [blocks, words of a lane / 4, g, q, 4, odd slot, upper slots, row / 8]
  const auto codes = [&](std::int64_t first) {
    const at::Tensor words = record.narrow(1, first, 2 * d).reshape({n, d / 64, 8, 4, 4, 1});
    const at::Tensor shifts = at::arange(0, 32, 2, words.options());
    return at::bitwise_and(at::bitwise_right_shift(words, shifts), kivi::kTop).to(at::kDouble).view({n, d / 64, 8, 4, 4, 2, 2, 4});
  };
  const auto halves = [&](std::int64_t first, std::int64_t words) {
    return record.narrow(1, first, words).contiguous().view(at::kHalf).to(at::kDouble);
  };
  const at::Tensor of_keys =  // [scale or minimum, blocks, 1, head_dim]
      halves(2 * d, d).view({n, d / 16, 4, 2, 2, 2}).permute({3, 0, 1, 4, 2, 5}).reshape({2, n, 1, d});
  const at::Tensor keys = codes(0).permute({0, 7, 2, 1, 4, 6, 3, 5}).reshape({n, kivi::kBlock, d}) * of_keys[0] + of_keys[1];
  const auto of_values = [&](std::int64_t first) {  // [tokens, groups, 1]
    return halves(first, d / 2).view({n, groups, 4, 2, 2, 2}).permute({0, 3, 4, 2, 5, 1}).reshape({n * kivi::kBlock, groups, 1});
  };
  const at::Tensor values = codes(3 * d).view({n, d / 64, 8, 4, 2, 2, 2, 2, 4}).permute({0, 5, 7, 3, 6, 1, 4, 8, 2})
                                    .reshape({n * kivi::kBlock, groups, kivi::kBlock}) * of_values(5 * d) + of_values(5 * d + d / 2);
  const std::int64_t group = p_.n_q_heads / p_.n_kv_heads;
  const at::Tensor heads = q_[p_.batch - 1].narrow(0, p_.n_q_heads - group, group).to(at::kDouble);
  const at::Tensor k = keys.reshape({-1, d}).narrow(0, 0, tokens_), v = values.reshape({-1, d}).narrow(0, 0, tokens_);
  return at::mm(at::softmax(at::mm(heads, k.t()) / std::sqrt(static_cast<double>(d)), -1), v);
}

}  // namespace vi::cuda
