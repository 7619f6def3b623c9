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
#include "eval/generation/largest_logits.h"

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
  Run(BatchModel& model, Queue& queue, std::vector<Slot>& slots, const BatchEvents& events, bool by_largest)
      : model_(model), queue_(queue), slots_(slots), events_(events), by_largest_(by_largest) {}

  void all() {
    for (;;) {
      for (std::size_t i = 0; i < slots_.size(); ++i)
        while (!slots_[i].request && !queue_.empty()) fill(i);
      std::vector<SlotToken> tokens;
      for (std::size_t i = 0; i < slots_.size(); ++i)
        if (slots_[i].request) tokens.push_back({static_cast<int>(i), slots_[i].sequence->id()});
      if (tokens.empty()) return;
      check_interrupt();
      const at::Tensor logits = in_memory([&] { return model_.step(tokens); });
      const std::vector<char> goes_on = logits.is_cpu() && !by_largest_ ? take_all(tokens, logits.contiguous()) : take_largest(tokens, logits);
      for (std::size_t row = 0; row < tokens.size(); ++row)
        if (!goes_on[row]) finish(tokens[row].slot);
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
    const at::Tensor logits = in_memory([&] { return model_.prefill(static_cast<int>(i), request.prompt).to(at::kCPU).contiguous(); });
    if (!take(static_cast<int>(i), logits, 0)) finish(static_cast<int>(i));
  }

  // Whether each sequence goes on. Sampling reads whole vocabularies: in parallel, each sequence for itself.
  std::vector<char> take_all(const std::vector<SlotToken>& tokens, const at::Tensor& logits) {
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
    for (const std::exception_ptr& error : errors)
      if (error) std::rethrow_exception(error);
    return goes_on;
  }

  // The same on the largest logits of each sequence; on all of them where those do not decide.
  std::vector<char> take_largest(const std::vector<SlotToken>& tokens, const at::Tensor& logits) {
    std::vector<double> temperatures;
    for (const SlotToken& token : tokens) temperatures.push_back(sequence(token.slot).temperature());
    const LargestLogits largest = in_memory([&] { return largest_logits(logits, temperatures); });
    std::vector<char> goes_on(tokens.size());
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      const auto taken = sequence(tokens[row].slot).take(largest.row(row), largest.mass[row]);
      goes_on[row] = taken ? *taken : take(tokens[row].slot, logits[static_cast<std::int64_t>(row)].unsqueeze(0).to(at::kCPU), 0);
    }
    return goes_on;
  }

  Sequence& sequence(int slot) { return *slots_[static_cast<std::size_t>(slot)].sequence; }

  bool take(int i, const at::Tensor& logits, std::size_t row) {
    const auto vocab = static_cast<std::size_t>(logits.size(1));
    return sequence(i).take({logits.const_data_ptr<float>() + row * vocab, vocab});
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
  bool by_largest_;
};

}  // namespace

std::int64_t bucket_capacity(std::int64_t tokens, std::int64_t context) {
  std::int64_t capacity = kLeastCapacity;
  while (capacity < tokens) capacity *= 2;
  return context > 0 ? std::min(capacity, context) : capacity;
}

int generate_batch(std::vector<BatchRequest> requests, int slots, std::int64_t context,
                   const BatchFactory& make, const BatchEvents& events, bool by_largest) {
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
        Run(*model, queue, active, events, by_largest).all();
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
