// Generation of many requests on the slots of a BatchModel: requests of like length go together, a slot whose
// sequence ended gets the next request at once, and where memory is short the batch is halved.
// Invariant: what a request generates depends on its prompt and settings only (each has its own sampler and
// seed), as far as the model's logits do (batch_model.h).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "eval/generation/batch_model.h"
#include "eval/generation/generate.h"

namespace vi::eval {

struct BatchRequest {
  std::size_t index = 0;  // the caller's name for it
  std::vector<std::int32_t> prompt;
  GenerateSettings settings;  // prefill_chunk and codec are not used
};

struct BatchEvents {
  std::function<void(std::size_t index, Generation&& generation)> done;  // as soon as it has ended
  std::function<void(const std::string& line)> note;                     // a smaller batch; may be empty
};

// Makes a model of `slots` sequences of at most `capacity` tokens.
using BatchFactory = std::function<std::unique_ptr<BatchModel>(int slots, std::int64_t capacity)>;

// Capacity of the bucket that a request of `tokens` (prompt and text) belongs to: 2048 doubled until they fit,
// at most `context` (0: no limit).
std::int64_t bucket_capacity(std::int64_t tokens, std::int64_t context);

// The longest bucket first, inside a bucket in the order given. A bucket has one model for all of its requests,
// so shapes (a GPU's graphs and caches) stay as they are while slots are refilled. Where making the model, a
// prefill or a step runs out of memory, the batch is halved, what was under way is generated again, and one
// line says so; with one slot left it is an OutOfMemoryError. Interrupts are checked once a step. Returns the
// smallest number of slots that was used. `by_largest`: sampling as on a GPU (largest_logits.h) on the CPU too, for tests.
int generate_batch(std::vector<BatchRequest> requests, int slots, std::int64_t context,
                   const BatchFactory& make, const BatchEvents& events, bool by_largest = false);

}  // namespace vi::eval
