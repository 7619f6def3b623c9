// Reads a Python source that binds one name to a dictionary of numbers or a dictionary of such
// dictionaries: P = {'B': {'\u4e00': -3.65, ...}, ...}. jieba keeps its model this way.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace vi::eval::text {

struct PyEntry {
  std::vector<std::string> keys;  // outermost first, UTF-8
  double value = 0.0;
};

// Calls fn for each number in the order written. `place` begins the messages. ContractError with
// the line.
void for_each_py_entry(std::string_view source, std::string_view place,
                       const std::function<void(const PyEntry&)>& fn);

}  // namespace vi::eval::text
