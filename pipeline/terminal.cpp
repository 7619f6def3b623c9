#include "pipeline/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace vi::pipeline {

std::string format_seconds(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  if (seconds < 100) return fmt::format("{:.0f} s", seconds);
  const long whole = static_cast<long>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

TerminalProgress::TerminalProgress() : terminal_(::isatty(2) == 1), run_begun_(Clock::now()) {}

void TerminalProgress::begin(std::string_view what, std::int64_t units) {
  what_ = what;
  units_ = units;
  done_ = 0;
  begun_ = Clock::now();
  drawn_ = {};
  draw(false);
}

void TerminalProgress::advance(std::int64_t units) {
  done_ += units;
  if (terminal_ && Clock::now() - drawn_ > std::chrono::milliseconds(100)) draw(false);
}

void TerminalProgress::end() {
  draw(true);
  what_.clear();
}

void TerminalProgress::note(std::string_view line) {
  clear();
  fmt::print(stderr, "{}\n", line);
  if (!what_.empty()) draw(false);
}

void TerminalProgress::clear() {
  if (terminal_) fmt::print(stderr, "\r\033[K");
}

void TerminalProgress::draw(bool last) {
  const auto now = Clock::now();
  const double elapsed = std::chrono::duration<double>(now - begun_).count();
  const std::string step = steps_ > 0 ? fmt::format("[{}/{}] ", step_, steps_) : "";
  if (last) {
    clear();
    fmt::print(stderr, "{}{}: {}\n", step, what_, format_seconds(elapsed));
    return;
  }
  if (!terminal_) return;
  drawn_ = now;
  std::string bar, left;
  if (units_ > 0) {
    const double part = std::min(1.0, static_cast<double>(done_) / static_cast<double>(units_));
    const int filled = static_cast<int>(part * 24);
    bar = fmt::format(" |{}{}| {:3.0f} %", std::string(filled, '#'), std::string(24 - filled, '.'), 100 * part);
    if (done_ > 0) left = fmt::format(", {} left here", format_seconds(elapsed / part - elapsed));
  }
  if (step_ > 1 && steps_ > 0) {
    const double run = std::chrono::duration<double>(now - run_begun_).count();
    left += fmt::format(", about {} in all", format_seconds(run / (step_ - 1) * (steps_ - step_ + 1)));
  }
  fmt::print(stderr, "\r\033[K{}{}{}{}", step, what_, bar, left);
  std::fflush(stderr);
}

}  // namespace vi::pipeline
