#include "eval/scorers/registry.h"

#include <array>

#include "core/common/error.h"
#include "core/config/node.h"
#include "eval/scorers/metrics.h"

namespace vi::eval {
namespace {

constexpr std::array kMetrics{
    Metric{"qa_f1", qa_f1, "F1 of words, English normalisation"},
    Metric{"qa_f1_zh", qa_f1_zh, "F1 of words, Chinese segmentation", true},
    Metric{"rouge", rouge_l, "ROUGE-L F of the PyPI package rouge"},
    Metric{"rouge_zh", rouge_l_zh, "ROUGE-L F after Chinese segmentation", true},
    Metric{"classification", classification, "share of the named classes that is right"},
    Metric{"retrieval", retrieval, "share of the named numbers that is the paragraph's"},
    Metric{"retrieval_zh", retrieval_zh, "the same, Chinese answers"},
    Metric{"count", count, "share of the named numbers that is the answer"},
    Metric{"code_sim", code_sim, "fuzzywuzzy ratio of the first line of code"},
    Metric{"math", math_answer, "1 if the extracted answer equals the answer"},
};

}  // namespace

std::span<const Metric> metrics() { return kMetrics; }

const Metric& find_metric(std::string_view name) {
  std::vector<std::string> names;
  std::string list;
  for (const Metric& metric : kMetrics) {
    if (metric.name == name) return metric;
    names.emplace_back(metric.name);
    list += (list.empty() ? "" : ", ") + names.back();
  }
  const std::string near = config::nearest_name(name, names);
  fail<ConfigError>("unknown metric '{}'{}; known: {}", name,
                    near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), list);
}

}  // namespace vi::eval
