// A method file (experiments/methods/*.yaml): a codec with its name and where it comes from.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/codec/spec.h"

namespace vi::codec {

// How close the row is to the published method: after its code, its paper, an abstract only.
enum class Fidelity { code, paper, abstract };
constexpr auto enum_names(Fidelity) {
  using P = std::pair<std::string_view, Fidelity>;
  return std::array{P{"code", Fidelity::code}, P{"paper", Fidelity::paper},
                    P{"abstract", Fidelity::abstract}};
}

struct MethodSpec {
  std::string name, description;
  Fidelity fidelity = Fidelity::paper;
  std::string source;
  std::map<std::string, std::string> notes;
  CodecSpec codec;
  template <class V>
  void visit(V& v) {
    v("name", name, "the file's name without .yaml");
    v("description", description, "one line");
    v("fidelity", fidelity, "code | paper | abstract");
    v("source", source, "paper and section, or the project's own");
    v("notes", notes, "what the source leaves open, or where this differs: key -> our default and why");
    v("codec", codec, "key, value, window");
  }
  void check(const config::Mark& mark) const;
};

// One file with its `base` list, which may name files beside it. ConfigError.
MethodSpec load_method(const std::filesystem::path& file);
// The method `name` of a folder; ConfigError with the nearest name if there is none.
MethodSpec find_method(const std::filesystem::path& folder, const std::string& name);
// Names of all methods of a folder (files not starting with '_'), sorted.
std::vector<std::string> method_names(const std::filesystem::path& folder);

}  // namespace vi::codec
