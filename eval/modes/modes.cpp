#include "eval/modes/modes.h"

#include <omp.h>

#include <algorithm>
#include <exception>

#include "core/codec/window.h"
#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "core/decoder/decoder_kernels.h"
#include "eval/modes/device_modes.h"

namespace vi::eval {
namespace {

constexpr std::int64_t kReconstructRows = 256;  // rows of a task, rounded up to a coder's groups

// q, k, v of one call as f32 rows on the CPU.
struct Rows {
  Rows(const at::Tensor& q_, const at::Tensor& k_, const at::Tensor& v_)
      : q(f32(q_)), k(f32(k_)), v(f32(v_)), options(q_.options()) {
    n = q.size(1), n_q_heads = q.size(0), n_kv_heads = k.size(0), head_dim = q.size(2);
  }
  static at::Tensor f32(const at::Tensor& x) { return x.to(at::kCPU, at::kFloat).contiguous(); }
  const float* query() const { return q.const_data_ptr<float>(); }
  const float* key() const { return k.const_data_ptr<float>(); }
  const float* value() const { return v.const_data_ptr<float>(); }
  at::Tensor output() const { return at::empty({n, n_q_heads * head_dim}, q.options()); }

  at::Tensor q, k, v;
  at::TensorOptions options;
  std::int64_t n = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
};

using Coders = std::function<const codec::HeadCoder*(int head)>;

// The rows [from, n) of each head as its coder gives them back; the rows before are left as they
// are. keys: the same tokens' keys, for coders of values that want them.
at::Tensor reconstruct(const at::Tensor& rows, const at::Tensor& keys, std::int64_t from,
                       const Coders& coder_of) {
  at::Tensor out = rows.clone();
  const std::int64_t heads = rows.size(0), n = rows.size(1), d = rows.size(2);
  if (from >= n) return out;
  const codec::HeadCoder* like = coder_of(0);
  const std::int64_t seal = like->seal_tokens();
  const std::int64_t step =
      like->sequential() ? n - from : (kReconstructRows + seal - 1) / seal * seal;
  const std::int64_t blocks = (n - from + step - 1) / step;
  const float* source = rows.const_data_ptr<float>();
  const float* key_rows = like->wants_keys() ? keys.const_data_ptr<float>() : nullptr;
  float* target = out.data_ptr<float>();
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t task = 0; task < heads * blocks; ++task) {
    try {
      const std::int64_t head = task / blocks, first = from + task % blocks * step;
      const std::int64_t at = (head * n + first) * d;
      coder_of(static_cast<int>(head))
          ->reconstruct_at(source + at, static_cast<std::size_t>(std::min(step, n - first)),
                           {static_cast<std::size_t>(first), key_rows ? key_rows + at : nullptr},
                           target + at);
    } catch (...) {
#pragma omp critical(vi_eval_reconstruct)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
  return out;
}

using Ends = std::vector<std::int64_t>;

// Attention of a whole prompt, of which row i sees token j reconstructed where sinks <= j < end[i].
// A side without a coder stays exact.
at::Tensor attend_prompt(int layer, const Rows& rows, const codec::Codec* codec, std::int64_t sinks,
                         const Ends& key_end, const Ends& value_end, std::int64_t window = 0) {
  model::AttentionInput in;
  in.window = window;
  in.n = rows.n;
  in.n_q_heads = static_cast<int>(rows.n_q_heads);
  in.n_kv_heads = static_cast<int>(rows.n_kv_heads);
  in.head_dim = static_cast<int>(rows.head_dim);
  in.q = rows.query(), in.k = rows.key(), in.v = rows.value();
  in.range.sinks = sinks;
  at::Tensor keys, values;
  if (codec) {
    VI_CHECK(codec->n_kv_heads() == rows.n_kv_heads && codec->head_dim() == rows.head_dim &&
                 layer < codec->n_layers(),
             "a codec of another model's shape");
    if (codec->key(layer, 0) && !key_end.empty()) {
      keys = reconstruct(rows.k, rows.k, sinks, [&](int head) { return codec->key(layer, head); });
      in.coded_k = keys.const_data_ptr<float>();
      in.range.key_end = key_end;
    }
    if (codec->value(layer, 0) && !value_end.empty()) {
      values = reconstruct(rows.v, rows.k, sinks, [&](int head) { return codec->value(layer, head); });
      in.coded_v = values.const_data_ptr<float>();
      in.range.value_end = value_end;
    }
  }
  at::Tensor out = rows.output();
  model::DecoderKernels(rows.options.dtype() == at::kBFloat16).attention(in, out.data_ptr<float>());
  return out.to(rows.options);
}

// The same off the CPU: eval/modes/device_modes.h.
at::Tensor attend_device(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                         const std::shared_ptr<const codec::Codec>& codec,
                         std::shared_ptr<const DeviceCodec>& tables, std::int64_t sinks,
                         const Ends& key_end, const Ends& value_end) {
  if (!codec) return causal_attention(q, k, v);
  if (!tables) tables = std::make_shared<const DeviceCodec>(codec, q.device());
  return mixed_attention(layer, q, k, v, tables.get(), sinks, key_end, value_end);
}

// end[i] = i + 1 - behind: all but the newest `behind` tokens.
Ends sliding_ends(std::int64_t n, std::int64_t behind) {
  Ends out(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) out[static_cast<std::size_t>(i)] = i + 1 - behind;
  return out;
}

void expect_start(std::int64_t first, const char* mode) {
  VI_CHECK(first == 0, "attention '{}' takes a whole prompt, not tokens from {} on", mode, first);
}

void expect_no_window(std::int64_t window, const at::Tensor& q) {
  if (window > 0 && q.size(1) > window)
    fail("{} tokens: expected at most {} on this device, the model's sliding attention window",
         q.size(1), window);
}

void append_all(cache::KvCache& cache, int layer, const Rows& rows) {
  cache.append(layer, rows.key(), rows.value(), rows.n, rows.n * rows.head_dim);
}

}  // namespace

at::Tensor ExactAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, std::int64_t first) {
  expect_start(first, "exact");
  if (q.device().is_cpu())
    return attend_prompt(layer, Rows(q, k, v), nullptr, 0, {}, {}, window(layer));
  expect_no_window(window(layer), q);
  return causal_attention(q, k, v);
}

at::Tensor AllAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                const at::Tensor& v, std::int64_t first) {
  expect_start(first, "all");
  const Ends ends = sliding_ends(q.size(1), 0);
  if (q.device().is_cpu())
    return attend_prompt(layer, Rows(q, k, v), codec_.get(), 0, ends, ends, window(layer));
  expect_no_window(window(layer), q);
  return attend_device(layer, q, k, v, codec_, tables_, 0, ends, ends);
}

WindowAttention::WindowAttention(std::shared_ptr<const codec::Codec> codec)
    : codec_(std::move(codec)),
      recent_(codec_->spec().window.recent),
      sinks_(codec_->spec().window.sinks) {}

WindowAttention::WindowAttention(std::shared_ptr<const codec::Codec> codec, int recent, int sinks)
    : codec_(std::move(codec)), recent_(recent), sinks_(sinks) {
  VI_CHECK(recent >= 0 && sinks >= 0, "a window of {} recent and {} first tokens", recent, sinks);
}

at::Tensor WindowAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                   const at::Tensor& v, std::int64_t first) {
  expect_start(first, "window");
  const Ends ends = sliding_ends(q.size(1), recent_);
  if (q.device().is_cpu())
    return attend_prompt(layer, Rows(q, k, v), codec_.get(), sinks_, ends, ends, window(layer));
  expect_no_window(window(layer), q);
  return attend_device(layer, q, k, v, codec_, tables_, sinks_, ends, ends);
}

at::Tensor PrefillAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                    const at::Tensor& v, std::int64_t first) {
  expect_start(first, "prefill");
  VI_CHECK(cache_.len(layer) == 0, "prefill into a cache of {} tokens", cache_.len(layer));
  const Rows rows(q, k, v);
  at::Tensor out = attend_prompt(layer, rows, nullptr, 0, {}, {});
  append_all(cache_, layer, rows);
  return out;
}

ChunkedPrefillAttention::ChunkedPrefillAttention(std::shared_ptr<const codec::Codec> codec,
                                                 cache::KvCache& cache, int chunk)
    : codec_(std::move(codec)), cache_(cache), chunk_(chunk) {
  VI_CHECK(chunk > 0, "chunks of {} tokens", chunk);
}

at::Tensor ChunkedPrefillAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, std::int64_t first) {
  expect_start(first, "chunked");
  VI_CHECK(cache_.len(layer) == 0, "prefill into a cache of {} tokens", cache_.len(layer));
  const Rows rows(q, k, v);
  const codec::WindowSpec& window = codec_->spec().window;
  // What the cache has coded when a chunk begins.
  const auto ends = [&](bool key) {
    const codec::HeadCoder* coder = key ? codec_->key(layer, 0) : codec_->value(layer, 0);
    Ends out;
    if (coder)
      for (std::int64_t i = 0; i < rows.n; ++i)
        out.push_back(window.sinks +
                      codec::coded_tokens(window, key, i / chunk_ * chunk_, coder->seal_tokens()));
    return out;
  };
  at::Tensor out = attend_prompt(layer, rows, codec_.get(), window.sinks, ends(true), ends(false));
  append_all(cache_, layer, rows);
  return out;
}

at::Tensor DecodeAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                   const at::Tensor& v, std::int64_t first) {
  VI_CHECK(cache_.len(layer) == first, "decode at position {} on a cache of {} tokens", first,
           cache_.len(layer));
  const Rows rows(q, k, v);
  at::Tensor out = rows.output();
  const std::int64_t d = rows.head_dim, width = rows.n_q_heads * d;
  std::vector<float> query(static_cast<std::size_t>(width));
  for (std::int64_t t = 0; t < rows.n; ++t) {
    if (t % 64 == 63) check_interrupt();
    cache_.append(layer, rows.key() + t * d, rows.value() + t * d, 1, rows.n * d);
    for (std::int64_t h = 0; h < rows.n_q_heads; ++h)
      std::copy_n(rows.query() + (h * rows.n + t) * d, d, query.begin() + h * d);
    cache_.attend(layer, query.data(), out.data_ptr<float>() + t * width);
  }
  return out.to(rows.options);
}

at::Tensor BatchDecodeAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, std::int64_t first) {
  VI_CHECK(first == model::kManySequences && q.size(1) == std::ssize(caches_), "{} tokens for {} caches",
           q.size(1), caches_.size());
  const Rows rows(q, k, v);
  at::Tensor out = rows.output();
  const std::int64_t d = rows.head_dim, width = rows.n_q_heads * d;
  float* const to = out.data_ptr<float>();
  const auto one = [&](std::int64_t i) {
    std::vector<float> query(static_cast<std::size_t>(width));
    caches_[static_cast<std::size_t>(i)]->append(layer, rows.key() + i * d, rows.value() + i * d, 1, rows.n * d);
    for (std::int64_t h = 0; h < rows.n_q_heads; ++h)
      std::copy_n(rows.query() + (h * rows.n + i) * d, d, query.begin() + h * d);
    caches_[static_cast<std::size_t>(i)]->attend(layer, query.data(), to + i * width);
  };
  // A thread a sequence, or, where there are fewer sequences than threads, all threads inside each: the
  // bytes are the same.
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic) if (rows.n >= omp_get_max_threads())
  for (std::int64_t i = 0; i < rows.n; ++i) {
    try {
      one(i);
    } catch (...) {
#pragma omp critical(vi_batch_attention_failure)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return out.to(rows.options);
}

at::Tensor DumpAttention::attend(int layer, const at::Tensor& q, const at::Tensor& k,
                                 const at::Tensor& v, std::int64_t first) {
  expect_start(first, "dump");
  if (!q.device().is_cpu()) {
    see_(layer, q, k, v);
    return causal_attention(q, k, v);
  }
  see_(layer, q, k, v);
  return attend_prompt(layer, Rows(q, k, v), nullptr, 0, {}, {});
}

}  // namespace vi::eval
