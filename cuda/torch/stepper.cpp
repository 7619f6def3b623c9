#include "cuda/torch/stepper.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>

#include "core/common/error.h"
#include "cuda/common/check.h"
#include "eval/modes/device_modes.h"

namespace vi::cuda {
namespace {

using model::ModelConfig;

class PromptHook final : public model::AttentionHook {
 public:
  PromptHook(DeviceCache& cache, int sequence) : cache_(cache), sequence_(sequence) {}
  at::Tensor attend(int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    std::int64_t) override {
    at::Tensor out = eval::causal_attention(q, k, v);
    cache_.put_prompt(layer, sequence_, k, v);
    return out;
  }

 private:
  DeviceCache& cache_;
  int sequence_;
};

}  // namespace

// A stream of its own: the default one cannot be captured, and cuBLAS keeps a workspace a stream.
struct Stepper::Graph {
  c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  at::cuda::CUDAGraph steps[2];  // [1]: one that also codes what fills a piece of the window
  bool ready = false;
};

// Events between the parts, as nodes of a captured graph: host time does not enter.
struct Stepper::Marks {
  std::vector<std::pair<int, cudaEvent_t>> events;  // end of a part
  cudaStream_t stream = nullptr;
  explicit Marks(cudaStream_t s) : stream(s) { events.reserve(512); }
  ~Marks() {
    for (auto& [part, event] : events) cudaEventDestroy(event);
  }
  void mark(int part) {
    cudaEvent_t event = nullptr;
    VI_CUDA(cudaEventCreate(&event));
    events.emplace_back(part, event);
    VI_CUDA(cudaEventRecordWithFlags(event, stream, cudaEventRecordExternal));
  }
};

Stepper::Stepper(std::shared_ptr<const GpuEngine> engine, std::unique_ptr<DeviceCache> cache,
                 const StepOptions& options)
    : engine_(std::move(engine)), cache_(std::move(cache)), options_(options) {
  const ModelConfig& c = engine_->config();
  const CacheShape& s = cache_->shape();
  VI_CHECK(s.n_layers == c.n_layers && s.n_q_heads == c.n_q_heads && s.n_kv_heads == c.n_kv_heads &&
               s.head_dim == c.head_dim,
           "a cache of another model's shape");
  VI_CHECK(engine_->dtype() == at::kFloat || engine_->dtype() == s.dtype, "a {} model on a {} cache",
           at::toString(engine_->dtype()), at::toString(s.dtype));
  const auto options_of = at::TensorOptions().device(engine_->device());
  const auto rows = options_of.dtype(engine_->dtype()), exact = options_of.dtype(s.dtype),
             f32 = options_of.dtype(at::kFloat);
  const std::int64_t q = static_cast<std::int64_t>(c.n_q_heads) * c.head_dim,
                     kv = static_cast<std::int64_t>(c.n_kv_heads) * c.head_dim;
  ids_ = at::zeros({s.batch}, options_of.dtype(at::kLong));
  next_ = at::zeros_like(ids_);
  cos_sin_ = at::zeros({s.batch, 2, c.head_dim / 2}, f32);
  x_ = at::zeros({s.batch, c.hidden}, rows);
  scratch_ = at::zeros_like(x_);
  qkv_ = at::zeros({s.batch, q + 2 * kv}, rows);
  q_ = at::zeros({s.batch, c.n_q_heads, c.head_dim}, exact);
  o_ = at::zeros_like(q_);
  o_rows_ = engine_->dtype() == s.dtype ? o_.view({s.batch, q}) : at::zeros({s.batch, q}, rows);
  gate_ = at::zeros({s.batch, c.ffn}, rows);
  both_ = at::zeros({s.batch, 2 * c.ffn}, rows);
  logits_ = at::zeros({s.batch, c.vocab}, f32);
  attention_factor_ = c.rope.attention_factor;
  frequency_ = at::zeros({s.batch, c.head_dim / 2}, f32);
  if (engine_->device().is_cuda()) graph_ = std::make_unique<Graph>();
  reset();
}

Stepper::~Stepper() = default;

MemoryPlan Stepper::plan(const ModelConfig& c, const CacheShape& s, const codec::Codec* codec,
                         at::ScalarType dtype, std::int64_t longest_prompt) {
  MemoryPlan plan = GpuEngine::plan(c, dtype);
  for (auto& part : DeviceCache::plan(s, codec).parts) plan.parts.push_back(part);
  const auto size = static_cast<std::int64_t>(c10::elementSize(dtype));
  const std::int64_t width = static_cast<std::int64_t>(c.n_q_heads + 2 * c.n_kv_heads) * c.head_dim;
  const std::int64_t chunk = std::min<std::int64_t>(longest_prompt, 8192);
  // Residual stream, q, k, v and attention's output of all tokens; one chunk's temporaries.
  if (longest_prompt > 0)
    plan.add("prefill", longest_prompt * (c.hidden + width + 2 * c.n_q_heads * c.head_dim) * size +
                            chunk * ((3 * c.ffn + c.hidden) * size + 3 * width * 4));
  plan.add("steps", s.batch * (c.vocab * 4 + (4 * c.hidden + 2 * width + 3 * c.ffn) * 4) + (96 << 20));
  return plan;
}

void Stepper::reset() {
  cache_->reset();
  ids_.zero_();
  next_.zero_();
}

at::Tensor Stepper::prefill(int sequence, std::span<const std::int32_t> ids) {
  VI_CHECK(!ids.empty(), "an empty prompt");
  PromptHook hook(*cache_, sequence);
  const std::int64_t n = std::ssize(ids);
  const at::Tensor hidden = engine_->forward(ids, 0, hook);
  cache_->set_len(sequence, n);
  const at::Tensor logits = engine_->logits(hidden.narrow(0, n - 1, 1));
  at::Tensor next = next_;
  next.narrow(0, sequence, 1).copy_(logits.argmax(-1));
  return logits;
}

void Stepper::run(bool flush, Marks* marks) const {
  const ModelConfig& c = engine_->config();
  const CacheShape& s = cache_->shape();
  const bool plain = options_.plain;
  const double eps = c.rms_eps;
  const auto mark = [&](int part) {
    if (marks) marks->mark(part);
  };
  if (plain || !engine_->device().is_cuda()) {
    const at::Tensor len = cache_->tokens().clone();
    at::Tensor tokens = cache_->tokens(), first = cache_->first(), slot = cache_->slot(),
               kv_len = cache_->kv_len(), dense_len = cache_->dense_len(), from = cache_->from(), cos_sin = cos_sin_;
    const int recent = cache_->recent(), step = cache_->step(), sinks = cache_->sinks();
    const auto coded = [&](const at::Tensor& n) {
      if (recent == 0) return at::zeros_like(n);
      return at::floor_divide((n - sinks - recent + step).clamp_min(0), step) * step;
    };
    first.copy_(coded(len));
    const at::Tensor after = coded(len + 1);
    slot.copy_(len);
    from.fill_(-1);
    if (recent > 0) {  // cuda/step/params.h
      const at::Tensor piece = at::floor_divide(first, step), waits = recent > step ? piece.remainder(recent / step - 1) : at::zeros_like(piece);
      from.copy_(at::where(after > first, sinks + waits * step, -1));
      const at::Tensor rest = (len - sinks).clamp_min(0), place = at::floor_divide(rest, step).clamp_max(recent / step - 1);
      slot.copy_(at::where(len >= sinks, sinks + place * step + rest.remainder(step), len));
    }
    kv_len.copy_(cache_->recent() == 0 ? len + 1 : after);
    dense_len.copy_(len + 1 - after);
    tokens.copy_(len + 1);
    const at::Tensor angle = (len.to(at::kFloat).unsqueeze(1) * frequency_).to(at::kDouble);
    cos_sin.select(1, 0).copy_(angle.cos() * attention_factor_);
    cos_sin.select(1, 1).copy_(angle.sin() * attention_factor_);
    x_.copy_(at::embedding(engine_->embedding(), ids_));
  } else {
    BeginParams p;
    p.batch = s.batch, p.hidden = static_cast<int>(c.hidden), p.head_dim = c.head_dim;
    p.sinks = cache_->sinks(), p.recent = cache_->recent(), p.step = cache_->step();
    p.vocab = c.vocab;
    p.tokens = cache_->tokens().data_ptr<int>();
    p.kv_len = cache_->kv_len().data_ptr<int>();
    p.dense_len = cache_->dense_len().data_ptr<int>();
    p.slot = cache_->slot().data_ptr<int>();
    p.first = cache_->first().data_ptr<int>();
    p.from = cache_->from().data_ptr<int>();
    p.frequency = frequency_.const_data_ptr<float>();
    p.attention_factor = static_cast<float>(attention_factor_);
    p.cos_sin = cos_sin_.data_ptr<float>();
    p.ids = ids_.const_data_ptr<std::int64_t>();
    p.embedding = engine_->embedding().const_data_ptr();
    p.x = x_.data_ptr();
    p.dtype = dtype_of(x_, "step: x");
    p.stream = current_stream(engine_->device());
    begin_step(p);
  }
  mark(0);
  for (int i = 0; i < c.n_layers; ++i) {
    const GpuLayer& l = engine_->layers()[static_cast<std::size_t>(i)];
    linear(x_, l.input_norm, eps, l.qkv, false, qkv_, scratch_, plain);
    mark(1);
    StepRows rows;
    rows.qkv = qkv_, rows.cos_sin = cos_sin_, rows.eps = eps;
    rows.q_norm = l.q_norm, rows.k_norm = l.k_norm;
    rows.slot = cache_->slot(), rows.q = q_;
    rows.key = cache_->key_rows(i), rows.value = cache_->value_rows(i);
    rope_append(rows, cache_->codec(), i, plain);
    mark(2);
    if (flush) {
      cache_->flush(i, plain);
      mark(3);
    }
    cache_->attend(i, q_, o_);
    mark(4);
    if (cache_->codec() && !cache_->codec()->of(i).value().identity) {  // attention's output goes back
      const eval::DeviceSide& side = cache_->codec()->of(i).value();
      const at::Tensor heads = o_.to(at::kFloat)
                                   .view({s.batch, c.n_kv_heads, -1, c.head_dim})
                                   .permute({1, 0, 2, 3})
                                   .reshape({c.n_kv_heads, -1, c.head_dim});
      const at::Tensor back = at::bmm(heads, side.inverse_a[i]) + side.inverse_b[i].unsqueeze(1);
      o_rows_.copy_(back.view({c.n_kv_heads, s.batch, -1, c.head_dim}).permute({1, 0, 2, 3}).reshape(o_rows_.sizes()));
    } else if (engine_->dtype() != s.dtype) {
      o_rows_.copy_(o_.view(o_rows_.sizes()));
    }
    linear(o_rows_, {}, eps, l.o, true, x_, scratch_, plain);
    mark(5);
    gated(x_, l.post_norm, eps, l.gate_up, gate_, scratch_, both_, plain);
    linear(gate_, {}, eps, l.down, true, x_, scratch_, plain);
    mark(6);
  }
  linear(x_, engine_->final_norm(), eps, engine_->head(), false, logits_, scratch_, plain);
  at::argmax_out(next_, logits_, -1);
  mark(7);
}

const at::Tensor& Stepper::advance() {
  cache_->check_room();
  const ModelConfig& c = engine_->config();
  // All kinds of scaling but `dynamic` give the same angles at any length.
  if (eager_steps_ == 0 || c.rope.scaling == model::RopeScalingKind::dynamic) {
    at::Tensor host = at::empty(frequency_.sizes(), at::TensorOptions().dtype(at::kFloat));
    for (int b = 0; b < cache_->shape().batch; ++b) {
      const std::vector<double> f =
          model::rope_frequencies(c.rope, c.head_dim, cache_->len(b) + 1);
      std::copy(f.begin(), f.end(), host.data_ptr<float>() + b * c.head_dim / 2);
    }
    frequency_.copy_(host);
  }
  const bool flush = cache_->flushes_next();
  if (!graph_) {
    run(flush, nullptr);
    ++eager_steps_;
    cache_->advance();
    return logits_;
  }
  const auto before = c10::cuda::getCurrentCUDAStream();
  cudaEvent_t order = nullptr;
  VI_CUDA(cudaEventCreateWithFlags(&order, cudaEventDisableTiming));
  const auto follow = [&](cudaStream_t behind, cudaStream_t ahead) {
    VI_CUDA(cudaEventRecord(order, ahead));
    VI_CUDA(cudaStreamWaitEvent(behind, order, 0));
  };
  follow(graph_->stream.stream(), before.stream());
  {
    const c10::cuda::CUDAStreamGuard guard(graph_->stream);
    if (!options_.graph || eager_steps_ == 0) {
      run(flush, nullptr);  // also the warm-up: handles and workspaces of this stream are made here
      ++eager_steps_;
    } else {
      for (int i = 0; !graph_->ready && i < (cache_->recent() > 0 ? 2 : 1); ++i) {
        graph_->steps[i].capture_begin();
        try {
          run(i == 1, nullptr);
        } catch (...) {  // memory ran out: the stream must not stay in capture, others go on with it
          try {
            graph_->steps[i].capture_end();
          } catch (const std::exception&) {
          }
          throw;
        }
        graph_->steps[i].capture_end();
      }
      graph_->ready = true;
      graph_->steps[flush ? 1 : 0].replay();
    }
  }
  follow(before.stream(), graph_->stream.stream());
  VI_CUDA(cudaEventDestroy(order));
  cache_->advance();
  return logits_;
}

const at::Tensor& Stepper::step(std::span<const std::int32_t> ids) {
  VI_CHECK(std::ssize(ids) == cache_->shape().batch, "{} tokens for {} sequences", ids.size(),
           cache_->shape().batch);
  for (const std::int32_t id : ids)
    if (id < 0 || id >= engine_->config().vocab)
      fail("token id {}: expected 0..{}", id, engine_->config().vocab - 1);
  ids_.copy_(engine_->index(ids));
  return advance();
}

const at::Tensor& Stepper::step() {
  ids_.copy_(next_);
  return advance();
}

std::vector<std::int32_t> Stepper::next() const {
  const at::Tensor host = next_.to(at::kCPU);
  return {host.const_data_ptr<std::int64_t>(), host.const_data_ptr<std::int64_t>() + host.numel()};
}

StepTimes Stepper::time_steps(int repeats) {
  VI_CHECK(graph_ && eager_steps_ > 0 && repeats > 0, "time_steps: on a GPU, after a first step");
  StepTimes t;
  double* const parts[] = {&t.embed,     &t.qkv,    &t.rope, &t.flush,
                           &t.attention, &t.output, &t.mlp,  &t.head};
  VI_CUDA(cudaDeviceSynchronize());
  at::cuda::CUDAGraph graph;
  Marks marks(graph_->stream.stream());
  const c10::cuda::CUDAStreamGuard guard(graph_->stream);
  graph.capture_begin();
  marks.mark(-1);
  run(false, &marks);
  graph.capture_end();
  for (int r = -2; r < repeats; ++r) {  // two to warm up
    while (cache_->flushes_next()) step();
    cache_->check_room();
    ids_.copy_(next_);
    graph.replay();
    cache_->advance();
    VI_CUDA(cudaStreamSynchronize(graph_->stream.stream()));
    if (r < 0) continue;
    for (std::size_t i = 1; i < marks.events.size(); ++i) {
      float ms = 0;
      VI_CUDA(cudaEventElapsedTime(&ms, marks.events[i - 1].second, marks.events[i].second));
      *parts[marks.events[i].first] += static_cast<double>(ms) / repeats;
      t.total += static_cast<double>(ms) / repeats;
    }
  }
  return t;
}

}  // namespace vi::cuda
