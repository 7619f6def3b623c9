// SPDX-License-Identifier: GPL-2.0-or-later
// vecinfer-math [MEMORY_MIB [SECONDS]]: one JSON line {"prediction", "answer"} in, one line
// {"equal": bool} out, until the input ends. A line that is no such object ends the program with 3.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "core/common/json.h"
#include "eval/math/answer.h"
#include "eval/math/checker/ginac_test.h"

int main(int argc, char** argv) {
  const long memory_mib = argc > 1 ? std::atol(argv[1]) : 0, seconds = argc > 2 ? std::atol(argv[2]) : 0;
  if (memory_mib > 0) {
    const rlim_t bytes = static_cast<rlim_t>(memory_mib) << 20;
    const rlimit limit{bytes, bytes};
    setrlimit(RLIMIT_AS, &limit);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
  }
  const vi::eval::math::GinacTest symbolic;
  std::string line;
  while (std::getline(std::cin, line)) {
    if (seconds > 0) alarm(static_cast<unsigned>(seconds));  // in case the parent is gone
    try {
      const vi::Json pair = vi::Json::parse(line);
      const bool equal = vi::eval::math::equal(pair.at("prediction").get<std::string>(),
                                               pair.at("answer").get<std::string>(), &symbolic);
      std::cout << (equal ? "{\"equal\":true}\n" : "{\"equal\":false}\n") << std::flush;
    } catch (const vi::Json::exception& error) {
      std::cerr << "vecinfer-math: expected {\"prediction\": text, \"answer\": text}: " << error.what() << "\n";
      return 3;
    }
    alarm(0);
  }
  return 0;
}
