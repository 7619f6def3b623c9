// Progress of long work. Libraries report through this interface; only the command line draws it.
#pragma once

#include <cstdint>
#include <string_view>

namespace vi {

class Progress {
 public:
  virtual ~Progress() = default;
  virtual void begin(std::string_view what, std::int64_t units) = 0;  // units < 0: unknown
  virtual void advance(std::int64_t units = 1) = 0;
  virtual void end() = 0;
  virtual void note(std::string_view line) = 0;  // a warning or a fact worth a line in the log
};

// Reports nothing.
class SilentProgress final : public Progress {
 public:
  void begin(std::string_view, std::int64_t) override {}
  void advance(std::int64_t) override {}
  void end() override {}
  void note(std::string_view) override {}
};

}  // namespace vi
