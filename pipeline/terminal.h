// Progress on a terminal: one line with a bar and an estimate of the time left; elsewhere one plain line
// per finished unit of work. stderr only.
#pragma once

#include <chrono>
#include <string>

#include "core/common/progress.h"

namespace vi::pipeline {

class TerminalProgress final : public Progress {
 public:
  TerminalProgress();
  void begin(std::string_view what, std::int64_t units) override;
  void advance(std::int64_t units) override;
  void end() override;
  void note(std::string_view line) override;

  // The plan of the whole run: `done` of `total` steps, shown before each bar and used for the estimate.
  void set_step(int done, int total) { step_ = done; steps_ = total; }

 private:
  void draw(bool last);
  void clear();
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  std::string what_;
  std::int64_t units_ = -1, done_ = 0;
  int step_ = 0, steps_ = 0;
  Clock::time_point begun_, drawn_, run_begun_;
};

std::string format_seconds(double seconds);  // "3.2 s", "4 min 10 s"

}  // namespace vi::pipeline
