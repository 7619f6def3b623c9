#include "cuda/torch/cache.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/ranges.h>

#include "core/codec/window.h"
#include "core/common/error.h"
#include "cuda/common/check.h"

namespace vi::cuda {
namespace {

std::int64_t stream_of(const quant::CodeLayout& layout, std::int64_t tokens) {
  // A block to spare: the tile kernel's loads are whole blocks.
  return static_cast<std::int64_t>(
      (layout.stream_bytes(static_cast<std::size_t>(tokens) + quant::kBlockTokens) + 255) / 256 * 256);
}

std::int64_t window_rows(const codec::WindowSpec& w) { return w.sinks + w.recent; }

quant::CodeLayout layout_of(const codec::CodeSpec& code, int head_dim) {
  return {head_dim / code.dsub, code.bits};
}

CodeShape code_shape(const eval::DeviceSide& side) {
  return {side.dsub, side.code_bits, side.shared};
}

KernelConfig pick_kernel(const Problem& problem, at::Device device, bool allow_naive) {
  if (!device.is_cuda()) return select_naive(problem);
  if (!allow_naive) return select_kernel(problem);
  try {
    return select_kernel(problem);
  } catch (const Error&) {
    return select_naive(problem);
  }
}

}  // namespace

std::optional<std::string> why_not_coded(const codec::Codec& codec) {
  for (int layer = 0; layer < codec.n_layers(); ++layer) {
    const auto member = codec.member(layer);
    const codec::CodecSpec& spec = member ? member->spec() : codec.spec();
    for (const auto& [name, side] : {std::pair("keys", &spec.key), std::pair("values", &spec.value)})
      if (side->code.kind != codec::CodeKind::vector)
        return fmt::format("{}{} have no vector code", name, member ? fmt::format(" of layer {}", layer) : "");
    for (const codec::HeadCoder* coder : {codec.key(layer, 0), codec.value(layer, 0)})
      if (!coder || !coder->vector_view())
        return fmt::format("layer {} holds more than plain vector codes", layer);
  }
  const codec::CodecSpec& s = codec.spec();
  if (s.window.key_flush != codec::Flush::block || s.window.value_flush != codec::Flush::block)
    return "the window slides";
  if (s.window.recent < 1) return "no window";
  if (s.window.recent % s.window.block() != 0)
    return fmt::format("the window's {} tokens are no multiple of its step of {}", s.window.recent, s.window.step);
  return std::nullopt;
}

MemoryPlan DeviceCache::plan(const CacheShape& s, const codec::Codec* codec) {
  MemoryPlan plan;
  const std::int64_t heads = static_cast<std::int64_t>(s.n_layers) * s.batch * s.n_kv_heads;
  if (!codec) {
    plan.add("dense keys and values", heads * s.capacity * s.head_dim * 2 * 2);
    return plan;
  }
  std::int64_t streams = 0, tables = 0;
  std::set<const codec::Codec*> members;  // each has tables of all layers
  for (int layer = 0; layer < s.n_layers; ++layer) {
    const auto member = codec->member(layer);
    const codec::Codec& c = member ? *member : *codec;
    if (members.insert(&c).second) tables += c.bits(1 << 20).codebook_bytes;
    streams += stream_of(layout_of(c.spec().key.code, s.head_dim), s.capacity) + stream_of(layout_of(c.spec().value.code, s.head_dim), s.capacity);
  }
  plan.add("codes", streams * s.batch * s.n_kv_heads);
  plan.add("exact window", heads * window_rows(codec->spec().window) * s.head_dim * 2 * 2);
  plan.add("codebooks and maps", 3 * tables);
  return plan;
}

DeviceCache::DeviceCache(const CacheShape& shape, std::shared_ptr<const eval::DeviceCodec> codec,
                         at::Device device, bool allow_naive)
    : shape_(shape), codec_(std::move(codec)), device_(device) {
  const CacheShape& s = shape_;
  VI_CHECK(s.n_layers > 0 && s.n_kv_heads > 0 && s.n_q_heads > 0 && s.n_q_heads % s.n_kv_heads == 0 &&
               s.head_dim > 0 && s.batch > 0 && s.capacity > 0 && s.capacity < (std::int64_t{1} << 31),
           "cache shape: {} layers, {} query heads, {} KV heads, head_dim {}, batch {}, capacity {}",
           s.n_layers, s.n_q_heads, s.n_kv_heads, s.head_dim, s.batch, s.capacity);
  VI_CHECK(s.dtype == at::kHalf || s.dtype == at::kBFloat16, "exact rows: expected f16 or bf16, got {}",
           at::toString(s.dtype));
  Device info;
  if (device.is_cuda()) info = current_device();
  const auto options = at::TensorOptions().device(device);
  if (codec_) {
    const codec::Codec& c = codec_->codec();
    VI_CHECK(c.n_layers() == s.n_layers && c.n_kv_heads() == s.n_kv_heads && c.head_dim() == s.head_dim &&
                 codec_->device() == device,
             "cache: the codec is of another model's shape or device");
    if (const auto why = why_not_coded(c)) fail("cache: this codec cannot be held as codes: {}", *why);
    sinks_ = c.spec().window.sinks;
    recent_ = c.spec().window.recent;
    step_ = c.spec().window.block();
    rows_ = window_rows(c.spec().window);
    coded_capacity_ = coded(s.capacity);
    std::size_t workspace = 256;
    for (int layer = 0; layer < s.n_layers; ++layer) {
      const eval::DeviceCodec& tables = codec_->of(layer);
      CodedLayer& to = coded_layers_.emplace_back();
      Problem problem;
      problem.batch = s.batch, problem.n_q_heads = s.n_q_heads, problem.n_kv_heads = s.n_kv_heads;
      problem.head_dim = s.head_dim;
      problem.key = code_shape(tables.key()), problem.value = code_shape(tables.value());
      problem.capacity = static_cast<int>(coded_capacity_);
      problem.dense_capacity = static_cast<int>(rows_);
      problem.dtype = s.dtype == at::kHalf ? Dtype::f16 : Dtype::bf16;
      problem.sm = info.sm, problem.n_sms = info.n_sms;
      to.config = pick_kernel(problem, device, allow_naive);
      workspace = std::max(workspace, to.config.workspace_bytes);
      for (const bool is_key : {true, false}) {
        const eval::DeviceSide& side = is_key ? tables.key() : tables.value();
        const at::Tensor books = side.centroids[layer];  // [kv, books, ksub, dsub]
        (is_key ? to.key_codes : to.value_codes) =
            at::zeros({s.batch, s.n_kv_heads, stream_of(side.layout, coded_capacity_)}, options.dtype(at::kByte));
        (is_key ? to.key_by_code : to.value_by_code) = books.permute({0, 2, 1, 3}).contiguous();
        if (is_key)
          to.key_mean = books.to(at::kFloat)
                            .mean(2)
                            .expand({s.n_kv_heads, side.layout.n_books, side.dsub})
                            .reshape({s.n_kv_heads, s.head_dim})
                            .contiguous();
      }
    }
    workspace_ = at::zeros({static_cast<std::int64_t>(workspace)}, options.dtype(at::kByte));
  } else {
    if (device.is_cuda() && s.head_dim != 64 && s.head_dim != 128)
      fail("dense cache: head_dim 64 or 128 on the GPU, got {}", s.head_dim);
    rows_ = s.capacity;
    splits_ = device.is_cuda() ? dense_splits(s.batch, s.n_kv_heads, static_cast<int>(s.capacity), info.n_sms) : 1;
    DenseParams p;
    p.batch = s.batch, p.n_q_heads = s.n_q_heads, p.head_dim = s.head_dim, p.num_splits = splits_;
    workspace_ = at::zeros({static_cast<std::int64_t>(dense_workspace_bytes(p))}, options.dtype(at::kByte));
  }
  key_rows_ = at::zeros({s.n_layers, s.batch, s.n_kv_heads, rows_, s.head_dim}, options.dtype(s.dtype));
  value_rows_ = at::zeros_like(key_rows_);
  for (at::Tensor* t : {&tokens_, &kv_len_, &dense_len_, &slot_, &first_, &from_})
    *t = at::zeros({s.batch}, options.dtype(at::kInt));
  len_.assign(static_cast<std::size_t>(s.batch), 0);
}

std::string DeviceCache::kernel() const {
  if (!codec_) return "dense";
  std::set<std::string> names;
  for (const CodedLayer& layer : coded_layers_) names.insert(kernel_name(layer.config.kind));
  return fmt::format("{}", fmt::join(names, " and "));
}

std::int64_t DeviceCache::coded(std::int64_t tokens) const {
  return codec_ ? codec::coded_tokens(codec_->codec().spec().window, true, tokens, 1) : 0;
}

std::int64_t DeviceCache::code_bytes() const {
  std::int64_t bytes = 0;
  for (const std::int64_t n : len_) {
    for (int layer = 0; codec_ && layer < shape_.n_layers; ++layer)
      for (const eval::DeviceSide* side : {&codec_->of(layer).key(), &codec_->of(layer).value()})
        bytes += static_cast<std::int64_t>(side->layout.stream_bytes(static_cast<std::size_t>(coded(n))));
    bytes += (n - coded(n)) * shape_.head_dim * 4 * shape_.n_layers;
  }
  return bytes * shape_.n_kv_heads;
}

void DeviceCache::reset() {
  std::fill(len_.begin(), len_.end(), 0);
  tokens_.zero_();
  // A partly filled last block has its unused codes zero (code_layout.h).
  for (CodedLayer& layer : coded_layers_) layer.key_codes.zero_(), layer.value_codes.zero_();
}

void DeviceCache::clear(int sequence) {
  set_len(sequence, 0);
  for (CodedLayer& layer : coded_layers_)
    for (at::Tensor* codes : {&layer.key_codes, &layer.value_codes}) codes->select(0, sequence).zero_();
}

void DeviceCache::put_prompt(int layer, int sequence, const at::Tensor& k, const at::Tensor& v) {
  const std::int64_t n = k.size(1);
  VI_CHECK(layer >= 0 && layer < shape_.n_layers && sequence >= 0 && sequence < shape_.batch,
           "cache: layer {} or sequence {} is out of range", layer, sequence);
  VI_CHECK(k.dim() == 3 && k.size(0) == shape_.n_kv_heads && k.size(2) == shape_.head_dim &&
               v.sizes() == k.sizes() && k.device() == device_ && v.device() == device_,
           "cache: keys or values of another shape or device");
  VI_CHECK(len(sequence) == 0, "cache: a prompt for a sequence of {} tokens", len(sequence));
  if (n > shape_.capacity) fail("cache: {} tokens, the capacity is {}", n, shape_.capacity);
  at::Tensor key = key_rows_[layer][sequence], value = value_rows_[layer][sequence];
  if (!codec_) {
    key.narrow(1, 0, n).copy_(k);
    value.narrow(1, 0, n).copy_(v);
    return;
  }
  const CodedLayer& coded_layer = coded_layers_[static_cast<std::size_t>(layer)];
  const std::int64_t n_coded = coded(n), sinks = std::min<std::int64_t>(n, sinks_), tail = n - sinks - n_coded;
  const at::Tensor none = at::zeros({1}, tokens_.options());
  std::vector<std::int64_t> row;  // of each exact token
  for (std::int64_t i = 0; i < sinks; ++i) row.push_back(i);
  for (std::int64_t i = n_coded; i < n_coded + tail; ++i) {
    const std::int64_t piece = i / step_, filled = (n_coded + tail) / step_, last = recent_ / step_ - 1;
    row.push_back(sinks_ + (piece < filled ? place(piece) : std::min(piece, last)) * step_ + i % step_);
  }
  const at::Tensor at_rows = at::tensor(row, at::kLong).to(device_);
  for (const bool is_key : {true, false}) {
    const eval::DeviceSide& side = is_key ? codec_->of(layer).key() : codec_->of(layer).value();
    const at::Tensor& rows = is_key ? k : v;
    const at::Tensor codes = (is_key ? coded_layer.key_codes : coded_layer.value_codes).narrow(0, sequence, 1);
    if (n_coded > 0) encode({rows.narrow(1, sinks, n_coded).unsqueeze(0), {}, 0, none, codes, false}, side, layer);
    at::Tensor exact = at::cat({rows.narrow(1, 0, sinks), rows.narrow(1, sinks + n_coded, tail)}, 1).to(at::kFloat);
    if (!side.identity) exact = at::bmm(exact, side.a[layer]) + side.b[layer].unsqueeze(1);
    (is_key ? key : value).index_copy_(1, at_rows, exact.to(shape_.dtype));
  }
}

void DeviceCache::set_len(int sequence, std::int64_t tokens) {
  VI_CHECK(tokens >= 0 && tokens <= shape_.capacity, "cache: length {} of {}", tokens, shape_.capacity);
  len_.at(static_cast<std::size_t>(sequence)) = tokens;
  at::Tensor t = tokens_;
  t[sequence].fill_(tokens);
}

void DeviceCache::fill_random(std::int64_t tokens) {
  for (const CodedLayer& layer : coded_layers_)
    for (const at::Tensor* t : {&layer.key_codes, &layer.value_codes}) {
      at::Tensor flat = t->view({-1});  // in parts: random numbers are drawn as 8 bytes each
      for (std::int64_t i = 0; i < flat.numel(); i += std::int64_t{1} << 30)
        flat.narrow(0, i, std::min(flat.numel() - i, std::int64_t{1} << 30)).random_(0, 256);
    }
  for (at::Tensor* t : {&key_rows_, &value_rows_})
    for (std::int64_t l = 0; l < t->size(0); ++l) (*t)[l].normal_();
  for (int b = 0; b < shape_.batch; ++b) set_len(b, tokens);
}

bool DeviceCache::flushes_next() const {
  return std::any_of(len_.begin(), len_.end(),
                     [&](std::int64_t n) { return coded(n + 1) != coded(n); });
}

void DeviceCache::flush(int layer, bool plain) const {
  if (!codec_) return;
  const eval::DeviceCodec& tables = codec_->of(layer);
  const CodedLayer& to = coded_layers_[static_cast<std::size_t>(layer)];
  at::Tensor key = key_rows_[layer], value = value_rows_[layer];
  encode({key, from_, step_, first_, to.key_codes, true}, tables.key(), layer);
  encode({value, from_, step_, first_, to.value_codes, true}, tables.value(), layer);
  if (step_ < recent_) move_piece(key, value, from_, sinks_ + recent_ - step_, step_, plain);
}

void DeviceCache::attend(int layer, const at::Tensor& q, at::Tensor& out) const {
  const CacheShape& s = shape_;
  expect(q, "attention: q", s.dtype, device_, {s.batch, s.n_q_heads, s.head_dim});
  expect(out, "attention: out", s.dtype, device_, {s.batch, s.n_q_heads, s.head_dim});
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(s.head_dim)));
  const Dtype dtype = s.dtype == at::kHalf ? Dtype::f16 : Dtype::bf16;
  const at::Tensor key_rows = key_rows_[layer], value_rows = value_rows_[layer];
  if (!codec_) {
    DenseParams p;
    p.q = q.const_data_ptr(), p.out = out.data_ptr();
    p.key = key_rows.const_data_ptr(), p.value = value_rows.const_data_ptr();
    p.kv_len = kv_len_.const_data_ptr<int>();
    p.batch = s.batch, p.n_q_heads = s.n_q_heads, p.n_kv_heads = s.n_kv_heads, p.head_dim = s.head_dim;
    p.capacity = static_cast<int>(rows_);
    p.dtype = dtype, p.scale = scale;
    p.workspace = reinterpret_cast<float*>(workspace_.data_ptr());
    p.num_splits = splits_;
    p.stream = current_stream(device_);
    return cuda::attend(p, device_);
  }
  DecodeParams p;
  p.q = q.const_data_ptr(), p.out = out.data_ptr();
  const CodedLayer& coded_layer = coded_layers_[static_cast<std::size_t>(layer)];
  for (const bool is_key : {true, false}) {
    const eval::DeviceSide& side = is_key ? codec_->of(layer).key() : codec_->of(layer).value();
    CodedSide& to = is_key ? p.key : p.value;
    const at::Tensor& codes = is_key ? coded_layer.key_codes : coded_layer.value_codes;
    to.codes = codes.const_data_ptr<std::uint8_t>();
    to.outer_stride = codes.stride(0), to.head_stride = codes.stride(1);
    to.centroids = static_cast<const char*>(side.centroids.const_data_ptr()) + layer * side.centroids.stride(0) * 2;
    to.by_code = (is_key ? coded_layer.key_by_code : coded_layer.value_by_code).const_data_ptr();
    if (is_key) to.mean = coded_layer.key_mean.const_data_ptr<float>();
    to.dsub = side.dsub, to.code_bits = side.code_bits, to.shared = side.shared;
  }
  p.kv_len = kv_len_.const_data_ptr<int>();
  p.dense_key = key_rows.const_data_ptr(), p.dense_value = value_rows.const_data_ptr();
  p.dense_len = dense_len_.const_data_ptr<int>();
  p.dense_capacity = static_cast<int>(rows_);
  p.batch = s.batch, p.n_q_heads = s.n_q_heads, p.n_kv_heads = s.n_kv_heads, p.head_dim = s.head_dim;
  p.dtype = dtype, p.scale = scale;
  p.workspace = workspace_.data_ptr();
  p.stream = current_stream(device_);
  cuda::attend(p, coded_layer.config, device_);
}

void DeviceCache::advance() {
  for (std::int64_t& n : len_) ++n;
}

void DeviceCache::check_room() const {
  for (std::size_t b = 0; b < len_.size(); ++b)
    if (len_[b] >= shape_.capacity)
      fail("cache: sequence {} holds {} tokens, the capacity is {}", b, len_[b], shape_.capacity);
}

}  // namespace vi::cuda
