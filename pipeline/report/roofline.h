// The roofline of decode attention: each timed step's bytes against its time, and the time that a copy of
// as many bytes takes on the same machine in the same run, below which no kernel can be.
#pragma once

#include <vector>

#include "core/common/json.h"
#include "pipeline/report/plot.h"

namespace vi::report {

// Of lines of timings.jsonl (or of `bench kernels --json`) with name or contender, bytes, ms and
// copy_gb_s; other lines are passed over. One line a contender; empty where no line has all four.
std::vector<Plot> roofline_plots(const std::vector<Json>& timings);

}  // namespace vi::report
