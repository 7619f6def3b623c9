// LongBench's classification_score: 1 / (number of classes named) if the right one is among them.
// Classes that are a part of the right one are struck from the list, by a loop that removes from
// the list it walks over and so passes over the element after each removal; kept as it is.
#include "core/common/error.h"
#include "eval/scorers/metrics.h"

namespace vi::eval {

double classification(std::string_view prediction, std::span<const std::string> answers,
                      const Json& record) {
  const auto classes = record.find("all_classes");
  if (classes == record.end() || !classes->is_array())
    fail<ContractError>("all_classes: expected a list of class names");
  std::vector<std::string> named;
  for (const Json& name : *classes) {
    if (!name.is_string()) fail<ContractError>("all_classes: expected a list of class names");
    if (prediction.find(name.get_ref<const std::string&>()) != std::string_view::npos)
      named.push_back(name.get<std::string>());
  }
  return detail::best_of(answers, [&](const std::string& answer) {
    std::vector<std::string> list = named;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string term = list[i];
      if (term != answer && answer.find(term) != std::string::npos)
        list.erase(std::find(list.begin(), list.end(), term));
    }
    const bool right = std::find(list.begin(), list.end(), answer) != list.end();
    return right ? 1.0 / static_cast<double>(list.size()) : 0.0;
  });
}

}  // namespace vi::eval
