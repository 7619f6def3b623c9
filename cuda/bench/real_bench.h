// Errors of the kernels on a real model's queries, keys and values (a file of real_activations).
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace vi::cuda {

// For each layer of the file, each query position a sequence of the tokens up to it: the coded
// kernel that would be chosen, the naive one, our dense kernel and KIVI's, each against its own f64
// oracle. `each` gets one line a layer and kernel: {model, layer, kernel, ..., rel_error,
// worst_head}. Error, with the file's name, where it does not hold what its first line says.
void real_bench(const std::string& file, const std::function<void(nlohmann::ordered_json)>& each);

}  // namespace vi::cuda
