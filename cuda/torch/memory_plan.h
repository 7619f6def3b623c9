// What a run will take of the GPU's memory, counted and shown before any of it is taken.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace vi::cuda {

struct MemoryPlan {
  std::vector<std::pair<std::string, std::int64_t>> parts;  // bytes
  void add(std::string what, std::int64_t bytes) { parts.emplace_back(std::move(what), bytes); }
  std::int64_t total() const;
  std::string text() const;  // "weights 15.0 GiB + codes 3.0 GiB + ... = 19.2 GiB"
};

std::int64_t free_bytes();  // of the current device, what torch holds and does not use included
// OutOfMemoryError with the plan, what is needed and what is free, if it cannot fit.
void check_fits(const MemoryPlan& plan);
// Runs f; an out-of-memory error of torch becomes an OutOfMemoryError with the plan and what is free.
void guard_memory(const MemoryPlan& plan, const std::function<void()>& f);

}  // namespace vi::cuda
