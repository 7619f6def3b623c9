#include "cuda/decode_attention/cases.h"

#include <algorithm>
#include <cmath>

#include "core/common/half.h"
#include "core/common/rng.h"
#include "core/quant/code_layout.h"

namespace vi::cuda {
namespace {

std::uint16_t to_bits(double v, Dtype t) {
  return t == Dtype::f16 ? float_to_half(static_cast<float>(v))
                         : float_to_bf16(static_cast<float>(v));
}
float from_bits(std::uint16_t v, Dtype t) {
  return t == Dtype::f16 ? half_to_float(v) : bf16_to_float(v);
}

}  // namespace

void spread_on_device(void* to, std::size_t n, const void* seed, std::size_t seed_bytes) {
  auto* bytes = static_cast<std::uint8_t*>(to);
  std::size_t done = std::min(n, seed_bytes);
  VI_CUDA(cudaMemcpy(bytes, seed, done, cudaMemcpyHostToDevice));
  while (done < n) {
    const std::size_t next = std::min(done, n - done);
    VI_CUDA(cudaMemcpy(bytes + done, bytes, next, cudaMemcpyDeviceToDevice));
    done += next;
  }
}

double relative_error(const float* a, const double* b, std::size_t n) {
  double e = 0, s = 0;
  for (std::size_t i = 0; i < n; ++i) {
    e += (a[i] - b[i]) * (a[i] - b[i]);
    s += b[i] * b[i];
  }
  return s > 0 ? std::sqrt(e / s) : std::sqrt(e);
}

DecodeCase::DecodeCase(const CaseSpec& spec)
    : spec_(spec), kv_len_(spec.kv_len), dense_len_(spec.dense_len) {
  Rng rng(spec.seed);
  const int batch = static_cast<int>(kv_len_.size()), d = spec.head_dim, h = spec.n_kv_heads;
  if (spec_.capacity == 0) spec_.capacity = *std::max_element(kv_len_.begin(), kv_len_.end());
  const int dense_capacity =
      dense_len_.empty() ? 0 : std::max(1, *std::max_element(dense_len_.begin(), dense_len_.end()));
  std::vector<double> mean(static_cast<std::size_t>(h) * d);
  for (int i = 0; i < h * d; ++i) mean[i] = spec.bias * rng.normal() * (i % 8 == 3 ? 10 : 1);

  const auto make_book = [&](const CodeShape& s, bool key) {
    const int n_books = s.shared ? 1 : d / s.dsub, ksub = 1 << s.code_bits;
    std::vector<std::uint16_t> book(static_cast<std::size_t>(h) * n_books * ksub * s.dsub);
    std::size_t at = 0;
    for (int head = 0; head < h; ++head)
      for (int m = 0; m < n_books; ++m)
        for (int c = 0; c < ksub; ++c)
          for (int i = 0; i < s.dsub; ++i)
            book[at++] = float_to_half(static_cast<float>(
                rng.normal() * (key ? spec.key_scale : 1) +
                (key ? mean[static_cast<std::size_t>(head) * d + m * s.dsub + i] : 0)));
    return book;
  };
  book_k_ = make_book(spec.key, true);
  book_v_ = make_book(spec.value, false);
  q_.resize(static_cast<std::size_t>(batch) * h * spec.group * d);
  for (auto& v : q_) v = to_bits(rng.normal(), spec.dtype);

  const int page = spec.page_tokens, max_pages = page ? (spec_.capacity + page - 1) / page : 0;
  const int n_outer = page ? batch * max_pages + 1 : batch;
  const auto stream = [&](const CodeShape& s, CodedSide& side) {
    const quant::CodeLayout layout{d / s.dsub, s.code_bits};
    const std::size_t bytes = std::max<std::size_t>(
        16, (layout.stream_bytes(page ? page : spec_.capacity) + 15) / 16 * 16);
    side.head_stride = static_cast<std::int64_t>(bytes);
    side.outer_stride = static_cast<std::int64_t>(bytes) * h;
    side.dsub = s.dsub;
    side.code_bits = s.code_bits;
    side.shared = s.shared;
    return bytes * h * n_outer;
  };
  const std::size_t key_bytes = stream(spec.key, host_.key),
                    value_bytes = stream(spec.value, host_.value);
  if (spec.device_codes) {
    // Random blocks repeated with a period that is no multiple of anything else here.
    std::vector<std::uint8_t> seed((1u << 20) - 48);
    for (auto& v : seed) v = static_cast<std::uint8_t>(rng.next() >> 40);
    const auto spread = [&](std::size_t n) {
      Buffer<std::uint8_t> b(n);
      spread_on_device(b.data(), n, seed.data(), seed.size());
      return b;
    };
    d_codes_k_ = spread(key_bytes);
    d_codes_v_ = spread(value_bytes);
  } else {
    codes_k_.resize(key_bytes);
    codes_v_.resize(value_bytes);
    for (auto& v : codes_k_) v = static_cast<std::uint8_t>(rng.next() >> 40);
    for (auto& v : codes_v_) v = static_cast<std::uint8_t>(rng.next() >> 40);
    d_codes_k_ = Buffer<std::uint8_t>(codes_k_);
    d_codes_v_ = Buffer<std::uint8_t>(codes_v_);
  }
  if (page) {
    table_.resize(static_cast<std::size_t>(batch) * std::max(1, max_pages));
    for (std::size_t i = 0; i < table_.size(); ++i) table_[i] = static_cast<int>(i) % n_outer;
    for (std::size_t i = table_.size(); i > 1; --i) std::swap(table_[i - 1], table_[rng.below(i)]);
    d_table_ = Buffer<int>(table_);
  }
  if (!dense_len_.empty()) {
    const std::size_t n = static_cast<std::size_t>(batch) * h * dense_capacity * d;
    dense_k_.resize(n);
    dense_v_.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t head = i / d / dense_capacity % h;
      dense_k_[i] = to_bits(rng.normal() * spec.key_scale +
                                mean[head * d + i % (spec.key.shared ? spec.key.dsub : d)],
                            spec.dtype);
      dense_v_[i] = to_bits(rng.normal(), spec.dtype);
    }
    d_dense_k_ = Buffer<std::uint16_t>(dense_k_);
    d_dense_v_ = Buffer<std::uint16_t>(dense_v_);
    d_dense_len_ = Buffer<int>(dense_len_);
  }
  d_q_ = Buffer<std::uint16_t>(q_);
  d_book_k_ = Buffer<std::uint16_t>(book_k_);
  d_book_v_ = Buffer<std::uint16_t>(book_v_);
  d_by_k_ = Buffer<std::uint16_t>(book_k_.size());
  d_by_v_ = Buffer<std::uint16_t>(book_v_.size());
  const int books_k = spec.key.shared ? 1 : d / spec.key.dsub,
            books_v = spec.value.shared ? 1 : d / spec.value.dsub;
  d_mean_ = Buffer<float>(static_cast<std::size_t>(h) * d);
  prepare_book(d_book_k_.data(), d_by_k_.data(), d_mean_.data(), h, books_k,
               1 << spec.key.code_bits, spec.key.dsub, d, nullptr);
  prepare_book(d_book_v_.data(), d_by_v_.data(), nullptr, h, books_v, 1 << spec.value.code_bits,
               spec.value.dsub, d, nullptr);
  d_len_ = Buffer<int>(kv_len_);
  d_out_ = Buffer<std::uint16_t>(q_.size());
  d_lse_ = Buffer<float>(static_cast<std::size_t>(batch) * h * spec.group);

  host_.q = q_.data();
  host_.key.codes = codes_k_.data();
  host_.value.codes = codes_v_.data();
  host_.key.centroids = book_k_.data();
  host_.value.centroids = book_v_.data();
  host_.kv_len = kv_len_.data();
  host_.block_table = page ? table_.data() : nullptr;
  host_.max_pages = max_pages;
  host_.page_tokens = page;
  host_.dense_key = dense_k_.empty() ? nullptr : dense_k_.data();
  host_.dense_value = dense_v_.empty() ? nullptr : dense_v_.data();
  host_.dense_len = dense_len_.empty() ? nullptr : dense_len_.data();
  host_.dense_capacity = dense_capacity;
  host_.batch = batch;
  host_.n_q_heads = h * spec.group;
  host_.n_kv_heads = h;
  host_.head_dim = d;
  host_.dtype = spec.dtype;
  host_.scale = 1.f / std::sqrt(static_cast<float>(d));
  device_ = host_;
  device_.q = d_q_.data();
  device_.out = d_out_.data();
  device_.lse = d_lse_.data();
  device_.key.codes = d_codes_k_.data();
  device_.value.codes = d_codes_v_.data();
  device_.key.centroids = d_book_k_.data();
  device_.value.centroids = d_book_v_.data();
  device_.key.by_code = d_by_k_.data();
  device_.value.by_code = d_by_v_.data();
  device_.key.mean = d_mean_.data();
  device_.kv_len = d_len_.data();
  device_.block_table = page ? d_table_.data() : nullptr;
  device_.dense_key = d_dense_k_.data();
  device_.dense_value = d_dense_v_.data();
  device_.dense_len = d_dense_len_.data();
}

Problem DecodeCase::problem(const Device& device) const {
  Problem p;
  p.batch = host_.batch;
  p.n_q_heads = host_.n_q_heads;
  p.n_kv_heads = host_.n_kv_heads;
  p.head_dim = host_.head_dim;
  p.key = spec_.key;
  p.value = spec_.value;
  p.capacity = spec_.capacity;
  p.page_tokens = spec_.page_tokens;
  p.dense_capacity = host_.dense_capacity;
  p.dtype = spec_.dtype;
  p.sm = device.sm;
  p.n_sms = device.n_sms;
  return p;
}

void DecodeCase::set_lengths(const std::vector<int>& kv_len) {
  std::copy(kv_len.begin(), kv_len.end(), kv_len_.begin());  // host_.kv_len points there
  d_len_.upload(kv_len_);
}

void DecodeCase::poison() {
  d_out_.fill(0xff);
  d_lse_.fill(0xff);
}

DecodeParams DecodeCase::device_params(const KernelConfig& config, cudaStream_t stream) {
  workspace_ = Buffer<std::uint8_t>(std::max<std::size_t>(config.workspace_bytes, 16));
  workspace_.fill(0);
  DecodeParams p = device_;
  p.workspace = workspace_.data();
  p.stream = stream;
  return p;
}

DecodeCase::Result DecodeCase::read() const {
  Result r;
  r.bits = d_out_.download();
  for (auto v : r.bits) r.out.push_back(from_bits(v, spec_.dtype));
  r.lse = d_lse_.download();
  return r;
}

DecodeCase::Result DecodeCase::run(const KernelConfig& config, cudaStream_t stream) {
  const DecodeParams p = device_params(config, stream);
  poison();
  VI_CUDA(cudaDeviceSynchronize());
  decode_attention(p, config);
  VI_CUDA(cudaDeviceSynchronize());
  return read();
}

DecodeParams DecodeCase::host_of_sequence(int b, std::vector<std::uint8_t>& key,
                                          std::vector<std::uint8_t>& value) const {
  key.resize(host_.key.outer_stride);
  value.resize(host_.value.outer_stride);
  VI_CUDA(cudaMemcpy(key.data(), d_codes_k_.data() + b * host_.key.outer_stride, key.size(),
                     cudaMemcpyDeviceToHost));
  VI_CUDA(cudaMemcpy(value.data(), d_codes_v_.data() + b * host_.value.outer_stride, value.size(),
                     cudaMemcpyDeviceToHost));
  DecodeParams p = host_;
  p.key.codes = key.data() - b * host_.key.outer_stride;
  p.value.codes = value.data() - b * host_.value.outer_stride;
  return p;
}

std::int64_t DecodeCase::code_bytes() const {
  std::int64_t sum = 0;
  const quant::CodeLayout k{host_.head_dim / spec_.key.dsub, spec_.key.code_bits},
      v{host_.head_dim / spec_.value.dsub, spec_.value.code_bits};
  for (int n : kv_len_)
    sum += static_cast<std::int64_t>(k.stream_bytes(n) + v.stream_bytes(n)) * host_.n_kv_heads;
  return sum;
}

}  // namespace vi::cuda
