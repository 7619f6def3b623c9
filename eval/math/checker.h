// Runs the program `vecinfer-math` (checker/), which compares answers with GiNaC, and holds it to a
// time and a memory limit per pair: a pair that passes a limit or crashes the program is judged
// different and counted, and the program is started again for the next one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

namespace vi::eval::math {

struct CheckerLimits {
  double seconds = 5.0;    // of wall time per pair, as Math-Verify's own limit
  int memory_mib = 512;    // address space of the program
};

class Checker {
 public:
  // Starts nothing yet. IoError if `program` cannot be run.
  explicit Checker(std::filesystem::path program, CheckerLimits limits = {});
  ~Checker();
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  enum class Outcome { equal, different, stopped };  // stopped: killed, out of memory or crashed
  Outcome compare(std::string_view prediction, std::string_view answer);  // any thread
  std::int64_t stopped() const { return stopped_; }

 private:
  void start();
  void stop();
  bool exchange(const std::string& request, std::string& reply);

  std::filesystem::path program_;
  CheckerLimits limits_;
  std::mutex mutex_;
  int socket_ = -1;
  int process_ = 0;
  std::int64_t stopped_ = 0;
};

// The checker that answers_equal() and judge() of the whole process use. Not thread-safe against
// them: called once, before scoring. An empty path turns it off.
void use_checker(const std::filesystem::path& program);

// use_checker() with `vecinfer-math` beside the running program; false, and nothing changes, if it
// is not there. Looks once.
bool use_installed_checker();

// How answers are compared now, for records: "symbolic" or "numeric"; and pairs stopped so far.
std::string comparison();
std::int64_t stopped_pairs();

}  // namespace vi::eval::math
