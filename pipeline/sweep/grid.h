// The grid under `sweep:` as points: every combination of one value from each axis. An axis is
//   methods: [entries]             one method a point
//   bits | window | sinks: [...]   of every method but fp16: payload bits, newest and first exact
//   tokens codec.KEY: [...]               any codec key of every method but fp16 seeds: [...]
//   calibration and codebook seeds at once key.path: [...]                any other setting, as for
//   --set name: {label: {key: value}}    several of the above at once, e.g. calibration sets
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/common/json.h"
#include "pipeline/commands.h"

namespace vi::pipeline {

struct SweepPoint {
  std::string id;  // of the resolved settings and the inputs' size and time
  std::vector<std::pair<std::string, std::string>> axes;  // axis -> value as people read it
  std::vector<std::string> sets;                          // what --set takes
  std::string text() const;                               // "bits=2, seeds=1"
};

struct SweepGrid {
  std::string experiment;
  std::vector<SweepPoint>
      points;  // in the order of the axes, the last runs fastest; equal settings once
};

// Whether an axis means the codecs of the methods, so that fp16 does not know it.
bool is_codec_axis(const std::string& axis);

// Loads and checks every point before any runs. ConfigError at the axis, ContractError for a
// missing file.
SweepGrid load_grid(const RunArguments& arguments);

}  // namespace vi::pipeline
