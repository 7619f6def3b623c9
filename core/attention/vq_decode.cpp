#include "core/attention/vq_decode.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "core/attention/kernels.h"
#include "core/common/error.h"

namespace vi::attention {
namespace {

static_assert(kBlock == quant::kBlockTokens);
constexpr std::size_t kTile = 1024;       // tokens whose scores are held at once (16 KiB)
constexpr std::size_t kRowsTile = 64;     // decoded rows held at once
constexpr std::size_t kMaxSplits = 64;    // of one segment; more tokens make longer splits
constexpr std::size_t kMaxLut = 1 << 20;  // floats: 4 MiB a thread
constexpr float kNone = -std::numeric_limits<float>::infinity();

// Memory that stays with its thread from call to call: fresh pages a call cost more than the
// attention over a short cache.
class Buffer {
 public:
  float* get(std::size_t n) {
    if (n > size_) {
      data_.reset();
      data_.reset(static_cast<float*>(::operator new(n * sizeof(float), kAlign)));
      size_ = n;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t kAlign{64};
  struct Free {
    void operator()(float* p) const { ::operator delete(p, kAlign); }
  };
  std::unique_ptr<float, Free> data_;
  std::size_t size_ = 0;
};

// A side as the loops see it. Token indices here count from the first token after the sinks.
struct Side {
  const SideView* view = nullptr;
  const quant::VectorView* code = nullptr;  // null: coded rows are decoded by the coder
  PackedCode packed;
  std::size_t block_bytes = 0;
  bool look_up = false;  // keys: scores through a table

  CodeBlocks blocks(std::size_t first, std::size_t n) const {  // first is a multiple of 16
    const std::size_t total = quant::CodeLayout::blocks(view->n_coded);
    const std::size_t block = first / kBlock, count = (n + kBlock - 1) / kBlock;
    return {view->stream + block * block_bytes, view->stream + total * block_bytes,
            std::min(count, total - block)};
  }
};

enum class From { sinks, codes, recent };

// A run of tokens of one query quad whose keys all come from one place and whose values do.
struct Task {
  int unit = 0;  // kv_head * quads + quad
  From key = From::recent, value = From::recent;
  std::size_t first = 0, last = 0;
};

Side make_side(const SideView& view, bool key) {
  Side side;
  side.view = &view;
  if (view.n_coded == 0) return side;
  side.code = view.coder->vector_view();
  if (side.code == nullptr) return side;
  const quant::CodeLayout& layout = side.code->layout;
  const std::size_t ksub = std::size_t{1} << layout.code_bits;
  side.packed = {side.code->centroids, side.code->shared ? 0 : ksub * side.code->dsub,
                 layout.n_books, layout.code_bits, side.code->dsub};
  side.block_bytes = layout.block_bytes();
  // A table costs about as much as scoring a third to a half of ksub tokens from the codebook.
  side.look_up = key && 2 * view.n_coded >= ksub && layout.n_books * ksub * kQuad <= kMaxLut;
  return side;
}

// Cuts one head's tokens where the source of keys or values changes, then into splits. Depends on
// the view alone, so that neither threads nor other heads move a cut.
void add_tasks(const HeadView& view, int unit, std::vector<Task>& tasks) {
  const auto cut = [&](From key, From value, std::size_t first, std::size_t last) {
    if (first >= last) return;
    std::size_t step = std::max(kTile, (last - first + kMaxSplits - 1) / kMaxSplits);
    step = (step + kBlock - 1) / kBlock * kBlock;
    for (; first < last; first += step)
      tasks.push_back({unit, key, value, first, std::min(first + step, last)});
  };
  const std::size_t k = view.key.n_coded, v = view.value.n_coded;
  cut(From::sinks, From::sinks, 0, view.n_sinks);
  cut(From::codes, From::codes, 0, std::min(k, v));
  cut(k > v ? From::codes : From::recent, k > v ? From::recent : From::codes, std::min(k, v),
      std::max(k, v));
  cut(From::recent, From::recent, std::max(k, v), view.len - view.n_sinks);
}

// The partial softmax of one task: max [4], sum [4], acc [4][head_dim]; the accumulator lies in the
// value code's space where the values are vector codes.
struct Partial {
  float* data;
  float* max() const { return data; }
  float* sum() const { return data + kQuad; }
  float* acc() const { return data + 2 * kQuad; }
  static std::size_t floats(int head_dim) {
    return (2 + static_cast<std::size_t>(head_dim)) * kQuad;
  }
};

class Worker {
 public:
  Worker(const DecodeShape& shape, const HeadView* heads, const float* q, const Kernels& kernels)
      : d_(shape.head_dim),
        group_(shape.group()),
        quads_((group_ + kQuad - 1) / kQuad),
        heads_(heads),
        q_(q),
        kernels_(kernels) {
    static thread_local Buffer queries, scores, rows, lut;
    lut_ = &lut;
    const std::size_t quad = static_cast<std::size_t>(d_) * kQuad;
    exact_q_ = queries.get(3 * quad);
    coded_q_ = exact_q_ + quad;
    spread_q_ = coded_q_ + quad;
    scores_ = scores.get(kTile * kQuad);
    rows_ = rows.get(kRowsTile * d_);
  }

  void run(const Task& task, const Partial& partial) {
    if (task.unit != unit_) start_unit(task.unit);
    std::fill_n(partial.max(), kQuad, kNone);
    std::fill_n(partial.sum(), kQuad, 0.0f);
    std::fill_n(partial.acc(), static_cast<std::size_t>(d_) * kQuad, 0.0f);
    // Tiles begin at whole blocks of codes; tokens of a block that are another task's weigh
    // nothing.
    for (std::size_t tile = task.first / kBlock * kBlock; tile < task.last; tile += kTile) {
      const std::size_t first = std::max(tile, task.first),
                        last = std::min(tile + kTile, task.last);
      const std::size_t padded = (last - tile + kBlock - 1) / kBlock * kBlock;
      score(task.key, tile, first, last);
      std::fill(scores_, scores_ + (first - tile) * kQuad, kNone);
      std::fill(scores_ + (last - tile) * kQuad, scores_ + padded * kQuad, kNone);
      float factor[kQuad];
      kernels_.softmax(scores_, padded, partial.max(), partial.sum(), factor);
      for (int h = 0; h < kQuad; ++h)
        if (factor[h] != 1.0f)
          for (int i = 0; i < d_; ++i) partial.acc()[h * d_ + i] *= factor[h];
      add_values(task.value, tile, first, last, partial.acc());
    }
  }

 private:
  void start_unit(int unit) {
    unit_ = unit;
    view_ = &heads_[unit / quads_];
    key_ = make_side(view_->key, true);
    value_ = make_side(view_->value, false);
    const int head = unit / quads_ * group_ + unit % quads_ * kQuad;
    const int used = std::min(kQuad, group_ - unit % quads_ * kQuad);
    const float scale = 1.0f / std::sqrt(static_cast<float>(d_));
    std::fill_n(exact_q_, kQuad * d_, 0.0f);
    for (int i = 0; i < used * d_; ++i)
      exact_q_[i] = q_[static_cast<std::size_t>(head) * d_ + i] * scale;
    std::fill_n(offset_, kQuad, 0.0f);
    if (key_.code == nullptr) return;
    std::copy_n(exact_q_, kQuad * d_, coded_q_);
    const transform::HeadTransform* transform = key_.code->transform;
    if (transform != nullptr && !transform->identity()) {
      transform->query(coded_q_, used);
      if (std::any_of(transform->steps.begin(), transform->steps.end(),
                      [](const auto& s) { return s.kind == transform::Step::Kind::center; })) {
        // What the centre steps take off a score (q.c with c = T^-1(0)) is one constant over the
        // coded keys but not over the exact ones beside them.
        std::fill_n(rows_, d_, 0.0f);
        transform->inverse(rows_, 1);
        for (int h = 0; h < used; ++h) {
          double sum = 0;
          for (int i = 0; i < d_; ++i) sum += static_cast<double>(exact_q_[h * d_ + i]) * rows_[i];
          offset_[h] = static_cast<float>(sum);
        }
      }
    }
    if (!key_.look_up) return;
    for (int i = 0; i < d_; ++i)
      for (int h = 0; h < kQuad; ++h) spread_q_[i * kQuad + h] = coded_q_[h * d_ + i];
    const std::size_t ksub = std::size_t{1} << key_.packed.code_bits;
    float* table = lut_->get(key_.packed.n_books * ksub * kQuad);
    kernels_.build_lut(key_.packed, spread_q_, table);
    for (std::size_t c = 0; c < ksub; ++c)  // every token has one code of the first sub-space
      for (int h = 0; h < kQuad; ++h) table[c * kQuad + h] += offset_[h];
    table_ = table;
  }

  // Scores of tokens [first, last) to scores_ of a tile that begins at token `tile`.
  void score(From from, std::size_t tile, std::size_t first, std::size_t last) {
    float* to = scores_ + (first - tile) * kQuad;
    if (from != From::codes)
      return kernels_.score_rows(exact_rows(view_->key, from, first), last - first, d_, exact_q_,
                                 to);
    if (key_.look_up)
      return kernels_.score_codes(key_.packed, key_.blocks(tile, last - tile), table_, scores_);
    if (key_.code == nullptr) {
      for (; first < last; first += kRowsTile, to += kRowsTile * kQuad) {
        const std::size_t n = std::min(kRowsTile, last - first);
        view_->key.coder->decode(view_->key.stream, first, n, rows_);
        kernels_.score_rows(rows_, n, d_, exact_q_, to);
      }
      return;
    }
    for (std::size_t part = tile; part < last; part += kRowsTile) {
      const CodeBlocks blocks = key_.blocks(part, std::min(kRowsTile, last - part));
      kernels_.gather(key_.packed, blocks, rows_);
      to = scores_ + (part - tile) * kQuad;
      kernels_.score_rows(rows_, blocks.n * kBlock, d_, coded_q_, to);
      for (std::size_t t = 0; t < blocks.n * kBlock; ++t)
        for (int h = 0; h < kQuad; ++h) to[t * kQuad + h] += offset_[h];
    }
  }

  void add_values(From from, std::size_t tile, std::size_t first, std::size_t last, float* acc) {
    const float* p = scores_ + (first - tile) * kQuad;
    if (from != From::codes)
      return kernels_.add_rows(exact_rows(view_->value, from, first), last - first, d_, p, acc);
    if (value_.code == nullptr) {
      for (; first < last; first += kRowsTile, p += kRowsTile * kQuad) {
        const std::size_t n = std::min(kRowsTile, last - first);
        view_->value.coder->decode(view_->value.stream, first, n, rows_);
        kernels_.add_rows(rows_, n, d_, p, acc);
      }
      return;
    }
    if (kernels_.direct(value_.packed.dsub))
      return kernels_.add_codes(value_.packed, value_.blocks(tile, last - tile), scores_, acc);
    for (std::size_t part = tile; part < last; part += kRowsTile) {
      const CodeBlocks blocks = value_.blocks(part, std::min(kRowsTile, last - part));
      kernels_.gather(value_.packed, blocks, rows_);
      kernels_.add_rows(rows_, blocks.n * kBlock, d_, scores_ + (part - tile) * kQuad, acc);
    }
  }

  const float* exact_rows(const SideView& side, From from, std::size_t token) const {
    return from == From::sinks ? side.sinks + token * d_
                               : side.recent + (token - side.n_coded) * d_;
  }

  int d_, group_, quads_;
  const HeadView* heads_;
  const float* q_;
  const Kernels& kernels_;
  Buffer* lut_;
  float* exact_q_;   // [4][head_dim], scaled by 1 / sqrt(head_dim)
  float* coded_q_;   // the same in the key code's space
  float* spread_q_;  // coded_q_ as [head_dim][4]
  float* scores_;    // [kTile][4]
  float* rows_;      // [kRowsTile][head_dim]
  const float* table_ = nullptr;
  int unit_ = -1;
  const HeadView* view_ = nullptr;
  Side key_, value_;
  float offset_[kQuad] = {};
};

// Merges one unit's partials in task order and writes its query heads.
void combine(const DecodeShape& shape, const HeadView& view, const Task* tasks, std::size_t n,
             const float* partials, int quad, float* out) {
  const int d = shape.head_dim;
  const std::size_t stride = Partial::floats(d);
  const quant::VectorView* code =
      view.value.n_coded > 0 ? view.value.coder->vector_view() : nullptr;
  std::vector<float> coded(d);
  for (int h = 0; h < std::min(kQuad, shape.group() - quad * kQuad); ++h, out += d) {
    float most = kNone;
    for (std::size_t i = 0; i < n; ++i) most = std::max(most, partials[i * stride + h]);
    std::fill_n(out, d, 0.0f);
    std::fill(coded.begin(), coded.end(), 0.0f);
    float coded_sum = 0, sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const Partial partial{const_cast<float*>(partials) + i * stride};
      const float weight = std::exp(partial.max()[h] - most);
      const bool in_code = tasks[i].value == From::codes && code != nullptr;
      (in_code ? coded_sum : sum) += weight * partial.sum()[h];
      float* to = in_code ? coded.data() : out;
      for (int j = 0; j < d; ++j) to[j] += weight * partial.acc()[h * d + j];
    }
    if (coded_sum > 0) {
      // The mean of coded values goes through the inverse transform as any value would: it is
      // affine.
      for (float& x : coded) x /= coded_sum;
      if (code->transform != nullptr) code->transform->inverse(coded.data(), 1);
      for (int j = 0; j < d; ++j) out[j] += coded_sum * coded[j];
    }
    const float total = coded_sum + sum;
    if (n > 0)
      for (int j = 0; j < d; ++j) out[j] /= total;
  }
}

}  // namespace

void decode_attention(const DecodeShape& shape, const HeadView* heads, const float* q, float* out,
                      Simd level) {
  check_views(shape, heads);
  const int quads = (shape.group() + kQuad - 1) / kQuad, units = shape.n_kv_heads * quads;
  std::vector<Task> tasks;
  std::vector<std::size_t> first(units + 1);  // of each unit's tasks
  for (int unit = 0; unit < units; ++unit) {
    first[unit] = tasks.size();
    add_tasks(heads[unit / quads], unit, tasks);
  }
  first[units] = tasks.size();
  static thread_local Buffer buffer;
  const std::size_t stride = Partial::floats(shape.head_dim);
  float* partials = buffer.get(std::max<std::size_t>(1, tasks.size() * stride));
  const Kernels& table = kernels(level);
  const int n_tasks = static_cast<int>(tasks.size());
  const int threads = std::max(1, std::min(omp_get_max_threads(), n_tasks));
  // A thread that takes all tasks of a unit builds one table for them; with few units, finer.
  const bool whole_units = units % threads == 0 || units >= 4 * threads;
  const int chunk = std::max(1, whole_units ? n_tasks / units : n_tasks / (threads * 4));
  std::exception_ptr failure;
  const auto guarded =
      [&failure](const auto& work) {  // nothing may leave a loop that threads share
        try {
          work();
        } catch (...) {
#pragma omp critical(vi_attention_failure)
          if (!failure) failure = std::current_exception();
        }
      };
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    std::optional<Worker> worker;
    guarded([&] { worker.emplace(shape, heads, q, table); });
#pragma omp for schedule(dynamic, chunk)
    for (int i = 0; i < n_tasks; ++i)
      guarded([&] {
        if (worker) worker->run(tasks[i], {partials + i * stride});
      });
#pragma omp for schedule(static)
    for (int unit = 0; unit < units; ++unit) {
      const int head = unit / quads * shape.group() + unit % quads * kQuad;
      guarded([&] {
        combine(shape, heads[unit / quads], tasks.data() + first[unit],
                first[unit + 1] - first[unit], partials + first[unit] * stride, unit % quads,
                out + static_cast<std::size_t>(head) * shape.head_dim);
      });
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace vi::attention
