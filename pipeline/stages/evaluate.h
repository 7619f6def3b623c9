// The kinds of task of the evaluate stage, a file each. Each fills metrics and writes scores.jsonl;
// predictions.jsonl gets one line a unit of work (a window, a prompt) as it is done, so that a killed run goes
// on where it stopped.
#pragma once

#include <memory>

#include "core/codec/codec.h"
#include "core/common/file.h"
#include "pipeline/graph.h"

namespace vi::pipeline {

void evaluate_perplexity(StageContext& context, const TaskSpec& task,
                         const std::shared_ptr<const codec::Codec>& codec, Json& metrics);
void evaluate_needle(StageContext& context, const TaskSpec& task,
                     const std::shared_ptr<const codec::Codec>& codec, Json& metrics);
void evaluate_benchmark(StageContext& context, const TaskSpec& spec,
                        const std::shared_ptr<const codec::Codec>& codec, Json& metrics);

// What earlier, killed runs finished; then appends.
class Records {
 public:
  explicit Records(const std::filesystem::path& path) : appender_(path) {
    for_each_json_line(path, [&](std::int64_t, const Json& line) { lines_.push_back(line); });
  }
  const std::vector<Json>& lines() const { return lines_; }
  void add(const Json& line) {
    appender_.append(line.dump());
    lines_.push_back(line);
  }

 private:
  LineAppender appender_;
  std::vector<Json> lines_;
};

}  // namespace vi::pipeline
