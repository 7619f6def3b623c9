// The report of an experiment: the table for the terminal and report.html (self-contained, SVG inside).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/common/json.h"
#include "pipeline/report/table.h"

namespace vi::report {

// What the page is drawn from; every part may be empty.
struct Content {
  std::string experiment, description, model, note, git, device;
  std::vector<Json> results;                      // lines of results.jsonl, in the order of the YAML
  std::map<std::string, Json> metrics;            // "method\ttask" -> metrics.json
  std::map<std::string, std::vector<double>> samples;  // the same -> score of each window (log-loss) or answer
  std::map<std::string, std::string> fidelity;    // method -> code | paper | abstract
  Json outliers;                                  // {"layer", "stages": [{"name", "absmax": [channel]}]}
  Json memory;                                    // [{"method", "points": [[tokens, MiB]]}]
  std::vector<Json> timings;                      // lines of timings.jsonl
  std::vector<std::string> comparisons;           // texts of report/paper.h
  std::vector<std::string> failures;              // methods that could not be evaluated, with the reason
};

// One row a method, one column a task, with the bits.
Table result_table(const Content& content);

std::string html_page(const Content& content);

}  // namespace vi::report
