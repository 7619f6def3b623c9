// Rows of results: what metrics.json of an evaluate artifact holds, and the lines of results.jsonl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/common/json.h"

namespace vi::pipeline {

// One (method, task) with what the report shows of it.
struct ResultRow {
  Json line;      // the line of results.jsonl (fixed schema, docs/artifacts.md)
  Json metrics;   // metrics.json of the evaluate artifact
};

// Replaces the lines of `experiment` in results.jsonl by `rows`, keeps all others; under a lock, atomic.
void publish_results(const std::filesystem::path& results_jsonl, const std::string& experiment,
                     const std::vector<ResultRow>& rows);

}  // namespace vi::pipeline
