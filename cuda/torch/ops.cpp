#include "cuda/torch/ops.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>

#include "core/common/error.h"
#include "core/common/half.h"
#include "core/quant/code_layout.h"
#include "cuda/decode_attention/oracle.h"
#include "cuda/encode/oracle.h"

namespace vi::cuda {
namespace {

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (const std::int64_t n : shape) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", n);
  return text + "]";
}

const float* f32(const at::Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; }

// [n_layers, ...] -> the layer's pointer.
const float* f32_layer(const at::Tensor& t, int layer) {
  return t.defined() ? t.const_data_ptr<float>() + layer * t.stride(0) : nullptr;
}

void store(void* out, std::int64_t i, Dtype dtype, double v) {
  if (dtype == Dtype::f32)
    static_cast<float*>(out)[i] = static_cast<float>(v);
  else if (dtype == Dtype::f16)
    static_cast<std::uint16_t*>(out)[i] = float_to_half(static_cast<float>(v));
  else
    static_cast<c10::BFloat16*>(out)[i] = c10::BFloat16(static_cast<float>(v));
}

at::Tensor norm_rows(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor f = x.to(at::kFloat);
  return f * at::rsqrt(f.square().mean(-1, true) + eps) * weight.to(at::kFloat);
}

// x [batch, heads, d] -> its place in the codec's space, per KV head.
at::Tensor mapped(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b) {
  const std::int64_t batch = x.size(0), kv = a.size(0), d = x.size(2), group = x.size(1) / kv;
  const at::Tensor rows =
      x.reshape({batch, kv, group, d}).permute({1, 0, 2, 3}).reshape({kv, batch * group, d});
  at::Tensor y = at::bmm(rows, a);
  if (b.defined()) y = y + b.unsqueeze(1);
  return y.reshape({kv, batch, group, d}).permute({1, 0, 2, 3}).reshape({batch, kv * group, d});
}

void rope_append_plain(const StepRows& r, const eval::DeviceCodec* codec, int layer) {
  const std::int64_t batch = r.q.size(0), nq = r.q.size(1), d = r.q.size(2), kv = r.key.size(1);
  const at::Tensor rows = r.qkv.to(at::kFloat).view({batch, nq + 2 * kv, d});
  at::Tensor q = rows.narrow(1, 0, nq), k = rows.narrow(1, nq, kv), v = rows.narrow(1, nq + kv, kv);
  if (r.q_norm.defined()) q = norm_rows(q, r.q_norm, r.eps);
  if (r.k_norm.defined()) k = norm_rows(k, r.k_norm, r.eps);
  const at::Tensor cos = r.cos_sin.select(1, 0).unsqueeze(1), sin = r.cos_sin.select(1, 1).unsqueeze(1);
  const auto turn = [&](const at::Tensor& x) {
    const auto halves = x.chunk(2, -1);
    return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
  };
  q = turn(q), k = turn(k);
  if (codec) {
    codec = &codec->of(layer);
    if (codec->query().defined()) q = mapped(q, codec->query()[layer], {});
    if (!codec->key().identity) k = mapped(k, codec->key().a[layer], codec->key().b[layer]);
    if (!codec->value().identity) v = mapped(v, codec->value().a[layer], codec->value().b[layer]);
  }
  r.q.copy_(q);
  const at::Tensor at = r.slot.to(at::kLong).view({batch, 1, 1, 1}).expand({batch, kv, 1, d});
  at::Tensor key = r.key, value = r.value;
  key.scatter_(2, at, k.to(key.scalar_type()).unsqueeze(2));
  value.scatter_(2, at, v.to(value.scalar_type()).unsqueeze(2));
}

SideMap side_map(const eval::DeviceSide& side, int layer) {
  SideMap map;
  if (side.identity) return map;
  map.center = f32_layer(side.center, layer);
  map.scale = f32_layer(side.scale, layer);
  map.dense = f32_layer(side.dense, layer);
  map.hadamard = side.hadamard;
  return map;
}

}  // namespace

Dtype dtype_of(const at::Tensor& tensor, std::string_view what) {
  switch (tensor.scalar_type()) {
    case at::kHalf:
      return Dtype::f16;
    case at::kBFloat16:
      return Dtype::bf16;
    case at::kFloat:
      return Dtype::f32;
    default:
      fail("{}: expected f16, bf16 or f32, got {}", what, at::toString(tensor.scalar_type()));
  }
}

void expect(const at::Tensor& tensor, std::string_view what, at::ScalarType dtype, at::Device device,
            at::IntArrayRef shape) {
  if (tensor.defined() && tensor.scalar_type() == dtype && tensor.device() == device &&
      tensor.sizes() == shape && tensor.is_contiguous())
    return;
  const std::string wanted = fmt::format("expected a contiguous {} {} on {}", at::toString(dtype),
                                         shape_text(shape), device.str());
  if (!tensor.defined()) fail("{}: {}, got nothing", what, wanted);
  fail("{}: {}, got {}{} {} on {}", what, wanted, tensor.is_contiguous() ? "" : "a strided ",
       at::toString(tensor.scalar_type()), shape_text(tensor.sizes()), tensor.device().str());
}

cudaStream_t current_stream(at::Device device) {
  return device.is_cuda() ? c10::cuda::getCurrentCUDAStream(device.index()).stream() : nullptr;
}

void rope_append(const StepRows& r, const eval::DeviceCodec* codec, int layer, bool plain) {
  VI_CHECK(r.q.dim() == 3 && r.key.dim() == 4, "rope_append: q or the window has another shape");
  const std::int64_t batch = r.q.size(0), nq = r.q.size(1), d = r.q.size(2), kv = r.key.size(1),
                     capacity = r.key.size(2);
  const at::Device device = r.qkv.device();
  expect(r.qkv, "rope_append: qkv", r.qkv.scalar_type(), device, {batch, (nq + 2 * kv) * d});
  expect(r.cos_sin, "rope_append: cos_sin", at::kFloat, device, {batch, 2, d / 2});
  expect(r.slot, "rope_append: slot", at::kInt, device, {batch});
  expect(r.q, "rope_append: q", r.q.scalar_type(), device, {batch, nq, d});
  expect(r.key, "rope_append: key rows", r.q.scalar_type(), device, {batch, kv, capacity, d});
  expect(r.value, "rope_append: value rows", r.q.scalar_type(), device, {batch, kv, capacity, d});
  if (codec)
    VI_CHECK(codec->codec().head_dim() == d && codec->codec().n_kv_heads() == kv &&
                 layer < codec->codec().n_layers() && codec->device() == device,
             "rope_append: a codec of another model's shape or device");
  if (plain || !device.is_cuda()) return rope_append_plain(r, codec, layer);
  RopeAppendParams p;
  p.qkv = r.qkv.const_data_ptr();
  p.cos_sin = f32(r.cos_sin);
  for (const at::Tensor* norm : {&r.q_norm, &r.k_norm})
    if (norm->defined()) expect(*norm, "rope_append: norm", r.qkv.scalar_type(), device, {d});
  p.q_norm = r.q_norm.defined() ? r.q_norm.const_data_ptr() : nullptr;
  p.k_norm = r.k_norm.defined() ? r.k_norm.const_data_ptr() : nullptr;
  p.eps = static_cast<float>(r.eps);
  if (codec) {
    codec = &codec->of(layer);
    p.key = side_map(codec->key(), layer);
    p.value = side_map(codec->value(), layer);
    if (codec->query().defined()) {
      p.query.scale = f32_layer(codec->query_scale(), layer);
      p.query.hadamard = codec->key().hadamard;
      if (codec->key().dense.defined()) p.query.dense = f32_layer(codec->query(), layer);
    }
  }
  p.q = r.q.data_ptr();
  p.key_rows = r.key.data_ptr();
  p.value_rows = r.value.data_ptr();
  p.slot = r.slot.const_data_ptr<int>();
  p.capacity = capacity;
  p.batch = static_cast<int>(batch), p.n_q_heads = static_cast<int>(nq);
  p.n_kv_heads = static_cast<int>(kv), p.head_dim = static_cast<int>(d);
  p.in = dtype_of(r.qkv, "rope_append: qkv");
  p.out = dtype_of(r.q, "rope_append: q");
  p.stream = current_stream(device);
  rope_append(p);
}

void rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, at::Tensor& y, bool plain) {
  if (plain || !x.is_cuda()) {
    y.copy_(norm_rows(x, weight, eps));
    return;
  }
  VI_CHECK(x.dim() == 2, "rms_norm: rows of another shape");
  expect(x, "rms_norm: x", x.scalar_type(), x.device(), x.sizes());
  expect(weight, "rms_norm: weight", x.scalar_type(), x.device(), {x.size(1)});
  expect(y, "rms_norm: y", x.scalar_type(), x.device(), x.sizes());
  rms_norm(x.const_data_ptr(), weight.const_data_ptr(), y.data_ptr(), static_cast<int>(x.size(0)),
           static_cast<int>(x.size(1)), static_cast<float>(eps), dtype_of(x, "rms_norm: x"),
           current_stream(x.device()));
}

void silu_mul(const at::Tensor& x, at::Tensor& y, bool plain) {
  if (plain || !x.is_cuda()) {
    const auto halves = x.to(at::kFloat).chunk(2, -1);
    y.copy_(at::silu(halves[0]) * halves[1]);
    return;
  }
  expect(x, "silu_mul: x", x.scalar_type(), x.device(), {y.size(0), 2 * y.size(1)});
  expect(y, "silu_mul: y", x.scalar_type(), x.device(), y.sizes());
  silu_mul(x.const_data_ptr(), y.data_ptr(), static_cast<int>(y.size(0)), y.size(1),
           dtype_of(x, "silu_mul: x"), current_stream(x.device()));
}

namespace {

bool one_vector(const at::Tensor& x, const Linear& w, bool plain) {
  return !plain && x.is_cuda() && x.size(0) == 1 && x.scalar_type() != at::kFloat &&
         gemv_serves(w.weight.size(1), dtype_of(x, "gemv: x"));
}

void gemv_of(const at::Tensor& x, const at::Tensor& norm, double eps, const Linear& w,
             GemvParams::Then then, at::Tensor& y) {
  const std::int64_t rows = w.weight.size(0), columns = w.weight.size(1);
  expect(w.weight, "gemv: weight", x.scalar_type(), x.device(), {rows, columns});
  expect(x, "gemv: x", x.scalar_type(), x.device(), {1, columns});
  expect(y, "gemv: y", y.scalar_type(), x.device(),
         {1, then == GemvParams::Then::silu ? rows / 2 : rows});
  if (norm.defined()) expect(norm, "gemv: norm", x.scalar_type(), x.device(), {columns});
  if (w.bias.defined()) expect(w.bias, "gemv: bias", x.scalar_type(), x.device(), {rows});
  GemvParams p;
  p.w = w.weight.const_data_ptr();
  p.x = x.const_data_ptr();
  p.norm = norm.defined() ? norm.const_data_ptr() : nullptr;
  p.eps = static_cast<float>(eps);
  p.bias = w.bias.defined() ? w.bias.const_data_ptr() : nullptr;
  p.y = y.data_ptr();
  p.f32_out = y.scalar_type() == at::kFloat;
  p.then = then;
  p.rows = rows, p.columns = columns;
  p.dtype = dtype_of(x, "gemv: x");
  p.stream = current_stream(x.device());
  gemv(p);
}

}  // namespace

void linear(const at::Tensor& x, const at::Tensor& norm, double eps, const Linear& w, bool add,
            at::Tensor& y, at::Tensor& scratch, bool plain) {
  if (one_vector(x, w, plain))
    return gemv_of(x, norm, eps, w, add ? GemvParams::Then::add : GemvParams::Then::store, y);
  if (norm.defined()) rms_norm(x, norm, eps, scratch, plain);
  const at::Tensor& in = norm.defined() ? scratch : x;
  if (add) {
    y.addmm_(in, w.weight.t());
  } else if (y.scalar_type() == in.scalar_type()) {
    at::mm_out(y, in, w.weight.t());
  } else {
    y.copy_(at::mm(in, w.weight.t()));  // f32 logits of a batch
  }
  if (w.bias.defined()) y.add_(w.bias);
}

void gated(const at::Tensor& x, const at::Tensor& norm, double eps, const Linear& gate_up,
           at::Tensor& y, at::Tensor& scratch, at::Tensor& both, bool plain) {
  if (one_vector(x, gate_up, plain))
    return gemv_of(x, norm, eps, gate_up, GemvParams::Then::silu, y);
  linear(x, norm, eps, gate_up, false, both, scratch, plain);
  silu_mul(both, y, plain);
}

void encode(const EncodeRows& r, const eval::DeviceSide& side, int layer) {
  VI_CHECK(side.vector, "encode: the side has no vector code");
  const bool windows = r.from.defined();
  VI_CHECK(r.rows.dim() == 4 && r.rows.stride(3) == 1 &&
               (windows ? r.rows.is_contiguous() : r.rows.size(0) == 1 || r.rows.stride(0) == r.rows.size(2) * r.rows.stride(2)),
           "encode: rows of another shape");
  const std::int64_t batch = r.rows.size(0), heads = r.rows.size(1), n = windows ? r.n_tokens : r.rows.size(2), d = r.rows.size(3);
  if (n == 0) return;
  const at::Device device = r.rows.device();
  VI_CHECK(side.centroids.size(1) == heads && side.layout.n_books * side.dsub == d &&
               side.centroids.device() == device && layer < side.centroids.size(0),
           "encode: rows of {} heads, head_dim {} for a codec of {} heads, head_dim {}", heads, d,
           side.centroids.size(1), side.layout.n_books * side.dsub);
  expect(r.first, "encode: first", at::kInt, device, {batch});
  VI_CHECK(r.codes.dim() == 3 && r.codes.scalar_type() == at::kByte && r.codes.size(0) == batch &&
               r.codes.size(1) == heads && r.codes.stride(2) == 1 && r.codes.device() == device,
           "encode: codes of another shape");
  EncodeParams p;
  if (windows) {
    expect(r.from, "encode: from", at::kInt, device, {batch});
    p.from = r.from.const_data_ptr<int>();
    p.window_rows = heads * r.rows.size(2);
  }
  p.rows = r.rows.const_data_ptr();
  p.row_stride = r.rows.stride(2);
  p.head_stride = r.rows.stride(1);
  p.dtype = dtype_of(r.rows, "encode: rows");
  if (!r.mapped && !side.identity) {
    p.center = f32_layer(side.center, layer);
    p.inverse_scale = f32_layer(side.scale, layer);
    p.dense = f32_layer(side.dense, layer);
    p.hadamard = side.hadamard;
  }
  const at::Tensor books = side.centroids[layer];
  p.centroids = books.const_data_ptr();
  p.dsub = side.dsub, p.code_bits = side.code_bits, p.shared = side.shared;
  p.codes = r.codes.data_ptr<std::uint8_t>();
  p.code_head_stride = r.codes.stride(1);
  p.outer_stride = r.codes.stride(0);
  p.first = r.first.const_data_ptr<int>();
  p.batch = static_cast<int>(batch), p.n_tokens = static_cast<int>(n);
  p.n_kv_heads = static_cast<int>(heads), p.head_dim = static_cast<int>(d);
  p.stream = current_stream(device);
  if (device.is_cuda()) return encode(p);
  for (std::int64_t b = 0; b < batch; ++b) {
    if (windows && p.from[b] < 0) continue;
    EncodeParams one = p;
    one.batch = 1;
    one.rows = static_cast<const char*>(p.rows) +
               (windows ? b * p.window_rows + p.from[b] : b * n) * p.row_stride * static_cast<std::int64_t>(r.rows.element_size());
    const std::vector<OracleCode> codes = oracle_codes(one);
    std::size_t at = 0;
    for (std::int64_t t = 0; t < n; ++t)
      for (std::int64_t h = 0; h < heads; ++h)
        for (int m = 0; m < side.layout.n_books; ++m)
          quant::set_code(side.layout, p.codes + b * p.outer_stride + h * p.code_head_stride,
                          static_cast<std::size_t>(p.first[b] + t), m, static_cast<unsigned>(codes[at++].code));
  }
}

void move_piece(at::Tensor& key, at::Tensor& value, const at::Tensor& from, int last, int step, bool plain) {
  const at::Device device = key.device();
  const std::int64_t rows = key.size(2);
  expect(value, "move: values", key.scalar_type(), device, key.sizes());
  expect(from, "move: from", at::kInt, device, {key.size(0)});
  VI_CHECK(key.is_contiguous() && key.element_size() == 2 && last >= 0 && step > 0 && last + step <= rows, "move: rows of another shape");
  if (plain || !device.is_cuda()) {
    const at::Tensor begin = from.cpu();
    for (std::int64_t b = 0; b < key.size(0); ++b)
      if (const int to = begin.data_ptr<int>()[b]; to >= 0 && to != last)
        for (at::Tensor* t : {&key, &value}) t->select(0, b).narrow(1, to, step).copy_(t->select(0, b).narrow(1, last, step));
    return;
  }
  MovePieceParams p;
  p.key_rows = key.data_ptr(), p.value_rows = value.data_ptr();
  p.from = from.const_data_ptr<int>();
  p.last = last, p.step = step, p.rows = rows;
  p.batch = static_cast<int>(key.size(0)), p.n_kv_heads = static_cast<int>(key.size(1)), p.head_dim = static_cast<int>(key.size(3));
  p.stream = current_stream(device);
  move_piece(p);
}

void attend(const DecodeParams& p, const KernelConfig& config, at::Device device) {
  if (device.is_cuda()) return decode_attention(p, config);
  const std::int64_t size = static_cast<std::int64_t>(p.n_q_heads) * p.head_dim;
  for (int b = 0; b < p.batch; ++b) {
    const OracleResult r = oracle_decode(p, b);
    for (std::int64_t i = 0; i < size; ++i) store(p.out, b * size + i, p.dtype, r.out[static_cast<std::size_t>(i)]);
  }
}

void attend(const DenseParams& p, at::Device device) {
  if (device.is_cuda()) return dense_decode_attention(p);
  const std::int64_t size = static_cast<std::int64_t>(p.n_q_heads) * p.head_dim;
  for (int b = 0; b < p.batch; ++b) {
    const OracleResult r = oracle_dense(p, b);
    for (std::int64_t i = 0; i < size; ++i) store(p.out, b * size + i, p.dtype, r.out[static_cast<std::size_t>(i)]);
  }
}

}  // namespace vi::cuda
