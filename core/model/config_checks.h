// Limits and checks that both readers of a ModelConfig share (model_config.cpp, config_json.cpp).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/model/model_config.h"

namespace vi::model {

inline constexpr std::int64_t kMaxWidth = 1 << 20, kMaxLayers = 4096, kMaxHeads = 4096,
                              kMaxHeadDim = 4096, kMaxVocab = 1 << 24, kMaxPosition = 1 << 30;

// The value, or ContractError "<place>: expected least..most, got value".
std::int64_t in_range(std::int64_t value, std::int64_t least, std::int64_t most, std::string_view place);
double in_range(double value, double least, double most, std::string_view place);

double yarn_attention_factor(double factor);
void check_config(const ModelConfig& config, std::string_view place);

}  // namespace vi::model
