#include "core/tokenizer/normalizer.h"

#include <algorithm>

#include "core/tokenizer/unicode.h"

namespace vi::model {

void Normalizer::add_nfc() { steps_.push_back({Step::Kind::nfc, {}, {}}); }
void Normalizer::add_prepend(std::string_view text) {
  steps_.push_back({Step::Kind::prepend, {}, std::string(text)});
}
void Normalizer::add_replace(std::string_view from, std::string_view to) {
  steps_.push_back({Step::Kind::replace, std::string(from), std::string(to)});
}

bool Normalizer::only_nfc() const {
  return std::all_of(steps_.begin(), steps_.end(),
                     [](const Step& s) { return s.kind == Step::Kind::nfc; });
}

std::string Normalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_) {
    if (step.kind == Step::Kind::nfc) {
      out = nfc(out);
    } else if (step.kind == Step::Kind::prepend) {
      if (!out.empty()) out.insert(0, step.to);
    } else {
      std::string replaced;
      std::size_t done = 0;
      for (std::size_t at; (at = out.find(step.from, done)) != std::string::npos;
           done = at + step.from.size()) {
        replaced.append(out, done, at - done);
        replaced += step.to;
      }
      replaced.append(out, done, std::string::npos);
      out = std::move(replaced);
    }
  }
  return out;
}

}  // namespace vi::model
