#include "eval/generation/generate_batch.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <map>
#include <new>
#include <optional>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "core/common/out_of_memory.h"
#include "core/model/model_config.h"

namespace vi::eval {
namespace {

constexpr std::int64_t kLeastCapacity = 2048;

// Any way of running out of memory, as one kind of error.
template <class F>
auto in_memory(F&& f) {
  try {
    return f();
  } catch (const c10::OutOfMemoryError&) {
    fail<OutOfMemoryError>("out of GPU memory");
  } catch (const std::bad_alloc&) {
    fail<OutOfMemoryError>("out of memory");
  }
}

using Queue = std::deque<const BatchRequest*>;

struct Slot {
  const BatchRequest* request = nullptr;  // null: free
  std::optional<Sequence> sequence;
};

class Run {
 public:
  Run(BatchModel& model, Queue& queue, std::vector<Slot>& slots, const BatchEvents& events)
      : model_(model), queue_(queue), slots_(slots), events_(events) {}

  void all() {
    for (;;) {
      for (std::size_t i = 0; i < slots_.size(); ++i)
        while (!slots_[i].request && !queue_.empty()) fill(i);
      std::vector<SlotToken> tokens;
      for (std::size_t i = 0; i < slots_.size(); ++i)
        if (slots_[i].request) tokens.push_back({static_cast<int>(i), slots_[i].sequence->id()});
      if (tokens.empty()) return;
      check_interrupt();
      const at::Tensor logits = in_memory([&] { return on_host(model_.step(tokens)); });
      // Sampling reads whole vocabularies: in parallel, each sequence for itself.
      std::vector<char> goes_on(tokens.size());
      std::vector<std::exception_ptr> errors(tokens.size());
#pragma omp parallel for schedule(dynamic, 1)
      for (std::size_t row = 0; row < tokens.size(); ++row) {
        try {
          goes_on[row] = take(tokens[row].slot, logits, row);
        } catch (...) {
          errors[row] = std::current_exception();
        }
      }
      for (std::size_t row = 0; row < tokens.size(); ++row) {
        if (errors[row]) std::rethrow_exception(errors[row]);
        if (!goes_on[row]) finish(tokens[row].slot);
      }
    }
  }

 private:
  void fill(std::size_t i) {
    check_interrupt();
    Slot& slot = slots_[i];
    slot.request = queue_.front();
    queue_.pop_front();
    const BatchRequest& request = *slot.request;
    slot.sequence.emplace(std::ssize(request.prompt), request.settings, model_.config().max_position);
    const at::Tensor logits = in_memory([&] { return on_host(model_.prefill(static_cast<int>(i), request.prompt)); });
    if (!take(static_cast<int>(i), logits, 0)) finish(static_cast<int>(i));
  }

  // Through pinned memory: a step of 256 sequences brings 156 MB, and pageable copies are several times slower. Valid until the next call.
  at::Tensor on_host(const at::Tensor& logits) {
    if (logits.is_cpu()) return logits.contiguous();
    if (!pinned_.defined() || pinned_.size(0) < logits.size(0))
      pinned_ = at::empty(logits.sizes(), logits.options().device(at::kCPU).pinned_memory(true));
    const at::Tensor rows = pinned_.narrow(0, 0, logits.size(0));
    rows.copy_(logits);
    return rows;
  }

  bool take(int i, const at::Tensor& logits, std::size_t row) {
    const auto vocab = static_cast<std::size_t>(logits.size(1));
    return slots_[static_cast<std::size_t>(i)].sequence->take({logits.const_data_ptr<float>() + row * vocab, vocab});
  }

  void finish(int i) {
    Slot& slot = slots_[static_cast<std::size_t>(i)];
    Generation generation = std::move(*slot.sequence).result();
    const std::size_t index = slot.request->index;
    slot.request = nullptr;
    slot.sequence.reset();
    model_.release(i);
    events_.done(index, std::move(generation));
  }

  BatchModel& model_;
  Queue& queue_;
  std::vector<Slot>& slots_;
  const BatchEvents& events_;
  at::Tensor pinned_;
};

}  // namespace

std::int64_t bucket_capacity(std::int64_t tokens, std::int64_t context) {
  std::int64_t capacity = kLeastCapacity;
  while (capacity < tokens) capacity *= 2;
  return context > 0 ? std::min(capacity, context) : capacity;
}

int generate_batch(std::vector<BatchRequest> requests, int slots, std::int64_t context,
                   const BatchFactory& make, const BatchEvents& events) {
  VI_CHECK(slots > 0, "{} slots", slots);
  std::map<std::int64_t, Queue, std::greater<>> buckets;
  for (const BatchRequest& request : requests)
    buckets[bucket_capacity(std::ssize(request.prompt) + request.settings.max_new_tokens, context)].push_back(&request);
  int least = slots;
  for (auto& [capacity, queue] : buckets) {
    int now = slots;
    while (!queue.empty()) {
      std::vector<Slot> active(static_cast<std::size_t>(now));
      try {
        const auto model = in_memory([&] { return make(now, capacity); });
        Run(*model, queue, active, events).all();
        least = std::min(least, now);
      } catch (const OutOfMemoryError& error) {
        if (now == 1) throw;
        // In the order given, before those that have not begun.
        Queue again;
        for (const Slot& slot : active)
          if (slot.request) again.push_back(slot.request);
        std::sort(again.begin(), again.end());
        queue.insert(queue.begin(), again.begin(), again.end());
        if (events.note)
          events.note(fmt::format("batch of {} up to {} tokens: {}; going on with {}{}", now, capacity, error.what(),
                                  now / 2,
                                  again.empty() ? "" : fmt::format(" ({} begun again)", again.size())));
        now /= 2;
      }
    }
  }
  return least;
}

}  // namespace vi::eval
