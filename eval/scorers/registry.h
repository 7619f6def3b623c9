// The table of metrics. A metric is a pure function of prediction, accepted answers and the task's
// record; it takes the best answer and returns 0..1, unrounded, equal to the official script's
// value to 1e-9.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/common/json.h"

namespace vi::eval {

// `record` is the task's own record (or the case of `vecinfer score`); only `classification` reads
// it (all_classes). ContractError where the record lacks what the metric needs.
using ScoreFn = double (*)(std::string_view prediction, std::span<const std::string> answers,
                           const Json& record);

struct Metric {
  std::string_view name;
  ScoreFn score;
  std::string_view what;     // one line for `vecinfer list`
  bool needs_jieba = false;  // reads jieba's dictionary (Debian: python3-jieba)
};

std::span<const Metric> metrics();

// ConfigError with the nearest names if there is none of this name.
const Metric& find_metric(std::string_view name);

}  // namespace vi::eval
