// Chinese word segmentation as jieba's precise mode does it: the most probable path through the
// graph of dictionary words, then a hidden Markov model (B, M, E, S) over runs of single
// characters. The dictionary and the model's tables are jieba's own files, read at run time from
// Debian's python3-jieba.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vi::eval::text {

inline constexpr std::string_view kJiebaFolder = "/usr/lib/python3/dist-packages/jieba";

class Jieba {
 public:
  // dict.txt and finalseg/prob_{start,trans,emit}.py under `folder`. ContractError naming the
  // package if one is missing, file:line if one is damaged.
  explicit Jieba(const std::filesystem::path& folder);
  ~Jieba();
  Jieba(const Jieba&) = delete;
  Jieba& operator=(const Jieba&) = delete;

  // list(jieba.cut(text, cut_all=False)): every character of `text` is in exactly one word.
  std::vector<std::string> cut(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The one instance the metrics use, read at the first call. Thread-safe.
const Jieba& shared_jieba();
// Where shared_jieba() reads from; before its first call. For installations other than Debian's.
void set_jieba_folder(const std::filesystem::path& folder);
std::filesystem::path jieba_folder();

}  // namespace vi::eval::text
