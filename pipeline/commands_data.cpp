// data: the public sets of data/sources.yaml into the data folder.
#include <algorithm>
#include <cstdio>

#include "core/common/error.h"
#include "core/common/interrupt.h"
#include "pipeline/commands.h"
#include "pipeline/data/sources.h"
#include "pipeline/paths.h"
#include "pipeline/terminal.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
namespace {

std::string size_text(const data::Source& source) {
  std::int64_t bytes = 0;
  for (const data::DataFile& file : source.files()) {
    if (!file.bytes) return "size unknown";
    bytes += *file.bytes;
  }
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::vector<data::Source> chosen(const std::vector<data::Source>& all, const std::vector<std::string>& names) {
  std::vector<data::Source> result;
  std::vector<std::string> known;
  for (const data::Source& source : all) known.push_back(source.name);
  for (const std::string& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = config::nearest_name(name, known);
      std::string list;
      for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
      fail<ConfigError>("data: unknown set '{}'{}; there are {}", name,
                        near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), list);
    }
  for (const data::Source& source : all)
    if (names.empty() || std::find(names.begin(), names.end(), source.name) != names.end()) result.push_back(source);
  return result;
}

}  // namespace

int data_command(const DataArguments& arguments) {
  const fs::path list = arguments.sources.empty() ? project_root() / "data" / "sources.yaml" : fs::path(arguments.sources);
  const fs::path folder = arguments.to.empty() ? project_root() / "data" : fs::path(arguments.to);
  const auto sources = chosen(data::read_sources(list), arguments.names);
  if (arguments.list) {
    for (const data::Source& source : sources) {
      std::string what;
      const data::Presence presence = data::look(source, folder, &what);
      const char* word = presence == data::Presence::there ? "there" : presence == data::Presence::missing ? "missing" : "damaged";
      std::printf("%-8s %-22s %-14s %s\n         %s; licence %s\n", word, source.name.c_str(), size_text(source).c_str(),
                  source.description.c_str(), source.url.empty() ? source.made_by.c_str() : source.url.c_str(), source.licence.c_str());
      if (presence == data::Presence::damaged) std::printf("         %s\n", what.c_str());
      if (!source.unknown.empty()) std::printf("         no checksum or size: %s\n", source.unknown.c_str());
    }
    return 0;
  }
  if (!arguments.local.empty() && !fs::is_directory(arguments.local))
    fail<ConfigError>("--data {}: is not a folder", arguments.local);
  data::FetchOptions options;
  options.local = arguments.local;
  options.download.tries = arguments.tries;
  options.download.back_off = std::chrono::milliseconds(static_cast<std::int64_t>(arguments.back_off * 1000));
  TerminalProgress progress;
  int failed = 0, wrong = 0;
  for (const data::Source& source : sources) {
    check_interrupt();
    std::string what;
    const data::Presence presence = data::look(source, folder, &what);
    if (presence == data::Presence::there) {
      std::printf("%s: is there\n", source.name.c_str());
      continue;
    }
    if (source.url.empty() && arguments.local.empty()) {  // not ours to bring
      std::printf("%s: %s; `%s` puts it there\n", source.name.c_str(), what.c_str(), source.made_by.c_str());
      failed += !arguments.names.empty();
      continue;
    }
    if (presence == data::Presence::damaged) progress.note(what + "; it is fetched again");
    try {  // one set that cannot be had does not keep the others away
      std::printf("%s\n", data::fetch(source, folder, options, progress).c_str());
    } catch (const Interrupted&) {
      throw;
    } catch (const IoError&) {
      throw;
    } catch (const ContractError& error) {
      if (arguments.local.empty() || !arguments.names.empty()) ++wrong;
      progress.note(error.what());
    } catch (const Error& error) {
      ++failed;
      progress.note(error.what());
    }
    std::fflush(stdout);
  }
  if (wrong > 0) fail<ContractError>("data: {} of {} sets could not be had (the lines above say why)", wrong + failed, sources.size());
  if (failed > 0) fail("data: {} of {} sets could not be had (the lines above say why)", failed, sources.size());
  return 0;
}

}  // namespace vi::pipeline
