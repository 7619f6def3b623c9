#include "pipeline/stages/draw.h"

#include <algorithm>

#include "core/common/interrupt.h"
#include "core/common/json.h"
#include "core/common/rng.h"
#include "core/model/load.h"

namespace vi::pipeline {
namespace {

// Cuts documents into sequences of seq_len tokens (a rest of at least half of that counts too) and
// keeps a uniform sample of them.
class Reservoir {
 public:
  explicit Reservoir(const CalibrationSpec& spec) : spec_(spec), rng_(spec.seed) {}
  void add(std::span<const std::int32_t> ids) {
    for (const std::int32_t id : ids) {
      open_.push_back(id);
      if (static_cast<int>(open_.size()) == spec_.seq_len) close();
    }
  }
  void end_document() {
    if (static_cast<int>(open_.size()) >= spec_.seq_len / 2) close();
    open_.clear();
    ++doc_;
  }
  std::vector<Sequence> take() {
    std::sort(kept_.begin(), kept_.end(),
              [](const Sequence& a, const Sequence& b) { return a.ordinal < b.ordinal; });
    return std::move(kept_);
  }

 private:
  void close() {
    Sequence sequence{seen_++, doc_, std::move(open_)};
    open_.clear();
    if (static_cast<int>(kept_.size()) < spec_.sequences) {
      kept_.push_back(std::move(sequence));
    } else if (const std::uint64_t slot = rng_.below(static_cast<std::uint64_t>(seen_));
               slot < kept_.size()) {
      kept_[slot] = std::move(sequence);
    }
  }
  const CalibrationSpec& spec_;
  Rng rng_;
  std::vector<std::int32_t> open_;
  std::vector<Sequence> kept_;
  std::int64_t seen_ = 0;
  std::int32_t doc_ = 0;
};

}  // namespace

std::vector<Sequence> draw_sequences(StageContext& context) {
  if (const artifact::Artifact* text = context.find_input("text")) {
    std::vector<Sequence> sequences;
    for_each_json_line(text->checked("text.jsonl"), [&](std::int64_t, const Json& line) {
      const auto i = std::ssize(sequences);
      sequences.push_back({i, static_cast<std::int32_t>(i), line.at("ids").get<std::vector<std::int32_t>>()});
    });
    return sequences;
  }
  Session& session = context.session;
  const CalibrationSpec& spec = session.plan().experiment.calibration;
  const model::Tokenizer& tokenizer = *session.model().tokenizer;
  Reservoir reservoir(spec);
  const auto sink = [&](std::span<const std::int32_t> ids) {
    check_interrupt();
    reservoir.add(ids);
  };
  for (const std::string& file : spec.files) {
    if (file.ends_with(".jsonl")) {
      for_each_json_line(file, [&](std::int64_t line, const Json& record) {
        const auto field = record.find(spec.field);
        if (field == record.end() || !field->is_string())
          fail<ContractError>("{}:{}: expected a text in field '{}'", file, line, spec.field);
        sink(tokenizer.encode(field->get_ref<const std::string&>()));
        reservoir.end_document();
      });
    } else {
      model::encode_file(tokenizer, file, sink);
      reservoir.end_document();
    }
  }
  std::vector<Sequence> sequences = reservoir.take();
  if (sequences.empty())
    fail<ContractError>(
        "{}: too short: expected at least {} tokens in one document (calibration: seq_len {})",
        spec.files.front(), spec.seq_len / 2, spec.seq_len);
  return sequences;
}

TokenSample even_sample(const std::vector<Sequence>& sequences, std::int64_t most) {
  std::int64_t total = 0;
  for (const Sequence& sequence : sequences) total += std::ssize(sequence.ids);
  TokenSample sample{{}, std::min(most, total)};
  std::int64_t i = 0, first = 0;
  for (const Sequence& sequence : sequences) {
    const std::int64_t end = first + std::ssize(sequence.ids);
    std::vector<std::int64_t>& rows = sample.rows.emplace_back();
    for (; i < sample.n && i * total / sample.n < end; ++i) rows.push_back(i * total / sample.n - first);
    first = end;
  }
  return sample;
}

}  // namespace vi::pipeline
