// tune: codebook.h5 of k-means -> codebook.h5 whose centroids were tuned end to end (eval/calibration/tune_codebooks.h), where a
// method asks for it (`codebook: {tune_steps: N}`); of a method put together by layers all members' together, codebook_0.h5 ... for
// its parts. tune.json says what it brought on calibration text it did not see.
#include <algorithm>

#include "core/codec/codec_io.h"
#include "core/common/file.h"
#include "eval/calibration/tune_codebooks.h"
#include "pipeline/session.h"
#include "pipeline/stages/codec_input.h"
#include "pipeline/stages/draw.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace {

constexpr std::size_t kHeldOut = 8;  // every eighth sequence is measured on, never trained on

}  // namespace

std::vector<std::string> run_tune(StageContext& context, const Method& method) {
  Session& session = context.session;
  const MethodCodec all = method_codec(context, method);
  const auto window = static_cast<std::size_t>(method.codebook.tune_window);
  std::vector<std::vector<std::int32_t>> windows, held_out;
  const std::vector<Sequence> sequences = draw_sequences(context);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::vector<std::int32_t>& ids = sequences[s].ids;
    for (std::size_t at = 0; at + std::min(window, ids.size()) <= ids.size(); at += window) {
      std::vector<std::int32_t> piece(ids.begin() + static_cast<std::ptrdiff_t>(at),
                                      ids.begin() + static_cast<std::ptrdiff_t>(std::min(at + window, ids.size())));
      (s % kHeldOut == kHeldOut - 1 ? held_out : windows).push_back(std::move(piece));
    }
  }
  if (held_out.empty() && windows.size() > 1) {  // few sequences
    held_out.push_back(std::move(windows.back()));
    windows.pop_back();
  }
  if (held_out.empty()) fail<ConfigError>("method '{}': tune_steps needs at least two windows of {} tokens of calibration text", method.name, window);

  const std::unique_ptr<model::Decoder> decoder = session.plain_decoder();
  eval::TuneSettings settings;
  settings.steps = method.codebook.tune_steps;
  settings.rate = method.codebook.tune_rate;
  settings.recent = method.codec.window.recent;
  settings.sinks = method.codec.window.sinks;
  settings.seed = method.codebook.train.seed;
  context.progress.begin(session.current_label, settings.steps);
  const eval::TuneResult result = eval::tune_codebooks(
      *decoder, all.codec, windows, held_out, settings, context.progress,
      {[&] { return context.pending.load_checkpoint("steps"); }, [&](std::string_view bytes) { context.pending.save_checkpoint("steps", bytes); }});
  context.progress.end();

  const auto members = eval::tuned_members(all.codec);
  std::vector<std::string> files{"tune.json"};
  for (std::size_t m = 0; m < all.members.size(); ++m) {
    const std::string suffix = m == 0 ? "" : fmt::format("_{}", m - 1);
    const auto* input = context.find_input("codebook" + suffix);
    if (!input) continue;  // codes nothing
    const artifact::H5File from = input->open_h5("codebook.h5");
    // A member without a layer of its own was not tuned: its books stay as they are.
    const auto at = std::find(members.begin(), members.end(), all.members[m]);
    const codec::CodebookSet& books = at == members.end() ? all.members[m]->codebooks() : result.books[static_cast<std::size_t>(at - members.begin())];
    codec::CodebookFacts key, value;
    if (!books.key.empty()) key = codec::read_codebook_facts(from, "key");
    if (!books.value.empty()) value = codec::read_codebook_facts(from, "value");
    files.push_back("codebook" + suffix + ".h5");
    auto file = artifact::H5File::create(context.pending.path(files.back()));
    codec::write_codebooks(books, key, value, codec::read_shape(from), file);
    file.close();
  }
  write_file_atomic(context.pending.path("tune.json"),
             Json{{"steps", settings.steps}, {"windows", windows.size()}, {"held_out", held_out.size()},
                  {"divergence_before", result.before}, {"divergence_after", result.after}, {"kept", result.kept}}.dump(2) + "\n");
  return files;
}

}  // namespace vi::pipeline
