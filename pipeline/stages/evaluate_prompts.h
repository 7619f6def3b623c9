// evaluate: tasks whose answers are generated. All prompts go through eval/generation/generate_batch.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/codec/codec.h"
#include "core/decoder/sampler.h"
#include "eval/benchmark/predictions.h"
#include "pipeline/graph.h"

namespace vi::pipeline {

// A prompt that is ready for the model, and how its answer is scored.
struct Prompt {
  eval::Prediction record;  // all but the answer
  std::vector<std::int32_t> ids;
  int max_new_tokens = 0, min_new_tokens = 0;
  std::vector<std::int32_t> stop_ids;
  model::SamplerSettings sampler;
  std::function<double(const std::string&)> score;
};

// What a task asks: `n` records, of which record i is document and sample `name(i)` (which finds it again in
// predictions.jsonl, whatever the order it was written in) and prompt `make(i)`.
struct Prompts {
  std::size_t n = 0;
  std::function<std::pair<std::int64_t, int>(std::size_t)> name;
  std::function<Prompt(std::size_t)> make;
};

// Generates what predictions.jsonl does not hold yet, a line a record as soon as it is done; at the end the file
// is in the order of the records. Writes scores.jsonl and the scores of `metrics`. -> all, in order.
std::vector<eval::Prediction> answer_prompts(StageContext& context,
                                             const std::shared_ptr<const codec::Codec>& codec,
                                             const Prompts& prompts, Json& metrics);

// Tokens that the chat template puts around a user's text; 0 without a template.
std::int64_t template_tokens(Session& session);
// Chat form where the model has a template and the task wants it. `prefix` begins the model's turn and belongs
// to no answer.
std::vector<std::int32_t> encode_prompt(Session& session, const std::string& text, bool chat,
                                        std::string& template_name, const std::string& prefix = {});

}  // namespace vi::pipeline
