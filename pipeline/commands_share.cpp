// export, import: transform and codebook of a method as one HDF5 file, as the paper shares its codebooks.
#include <cstdio>

#include "core/artifact/contracts.h"
#include "core/artifact/foreign.h"
#include "core/codec/codec_io.h"
#include "core/common/interrupt.h"
#include "pipeline/commands.h"
#include "pipeline/graph.h"
#include "pipeline/paths.h"
#include "pipeline/session.h"
#include "pipeline/stages/stages.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
namespace {

std::size_t method_index(const Plan& plan, const Graph& graph, const std::string& name) {
  std::vector<std::string> names;
  std::size_t found = plan.methods.size();
  for (std::size_t m = 0; m < plan.methods.size(); ++m) {
    if (graph.methods[m].codebook < 0) continue;
    names.push_back(plan.methods[m].name);
    if (plan.methods[m].name == name || (name.empty() && names.size() == 1)) found = m;
  }
  std::string list;
  for (const std::string& one : names) list += (list.empty() ? "" : ", ") + one;
  if (names.empty()) fail<ConfigError>("export: no method of this experiment has codebooks");
  if (name.empty() && names.size() > 1) fail<ConfigError>("export: say which with --method: {}", list);
  if (found == plan.methods.size()) fail<ConfigError>("export: --method {}: this experiment has: {}", name, list);
  if (!plan.methods[found].parts.empty())
    fail<ConfigError>("export: '{}' is put together from other methods by layers: export those", plan.methods[found].name);
  return found;
}

}  // namespace

int export_command(const RunArguments& arguments, const std::string& name, const std::string& path) {
  TerminalProgress progress;
  Session session(plan_of(arguments), Device::cpu, progress);
  const Graph graph = build_graph(session);
  artifact::Store store(store_folder(arguments));
  Runner runner(session, graph, store, {});
  const std::size_t m = method_index(session.plan(), graph, name);
  const artifact::Artifact& transform = runner.make(graph.methods[m].calibrate);
  const artifact::Artifact& codebook = runner.make(graph.methods[m].codebook);
  const fs::path temporary = path + ".partial";
  auto out = artifact::H5File::create(temporary);
  artifact::stamp(out, artifact::FileKind::codec);
  out.set_attr("/", "model", session.plan().model.name);
  out.set_attr("/", "weights_sha256", session.weights_sha256());
  out.set_attr("/", "method", session.plan().methods[m].name);
  out.set_attr("/", "codec", canonical_json(config::to_json(session.plan().methods[m].codec)));
  out.set_attr("/", "transform_key", transform.manifest().stage.key());
  out.set_attr("/", "codebook_key", codebook.manifest().stage.key());
  codec::write_transforms(codec::read_transforms(transform.open_h5("transform.h5")), out, "/transform");
  const artifact::H5File books = codebook.open_h5("codebook.h5");
  const codec::CodebookSet set = codec::read_codebooks(books);
  codec::CodebookFacts key, value;
  if (!set.key.empty()) key = codec::read_codebook_facts(books, "key");
  if (!set.value.empty()) value = codec::read_codebook_facts(books, "value");
  codec::write_codebooks(set, key, value, codec::read_shape(books), out, "/codebook");
  out.close();
  fs::rename(temporary, path);
  std::printf("%s\n", path.c_str());
  return 0;
}

int import_command(const RunArguments& arguments, const std::string& path) {
  TerminalProgress progress;
  Session session(plan_of(arguments), Device::cpu, progress);
  const Graph graph = build_graph(session);
  artifact::Store store(store_folder(arguments));
  Runner runner(session, graph, store, {});
  const auto in = artifact::open_foreign(path, artifact::FileKind::codec, {.command = {"/proc/self/exe", "__import"}});
  if (in.attr_text("/", "weights_sha256") != session.weights_sha256())
    fail<ContractError>("{}: made for other weights ({}) than this experiment's {}", path, in.attr_text("/", "weights_sha256").substr(0, 12),
                        session.weights_sha256().substr(0, 12));
  const std::size_t m = method_index(session.plan(), graph, in.attr_text("/", "method"));
  if (in.attr_text("/", "codec") != canonical_json(config::to_json(session.plan().methods[m].codec)))
    fail<ContractError>("{}: its codec settings differ from those of method '{}'", path, session.plan().methods[m].name);
  const MethodNodes& nodes = graph.methods[m];
  // The artifacts take the keys that this experiment would give them; their inputs must be known for that.
  const auto calibrate = runner.key(nodes.calibrate);
  if (!calibrate) fail("{}: import needs the experiment's dump stage first: vecinfer stage dump {}", path, arguments.yaml);
  store.make(*calibrate, {}, [&](artifact::Pending& pending) {
    auto file = artifact::H5File::create(pending.path("transform.h5"));
    codec::write_transforms(codec::read_transforms(in, "/transform"), file);
    file.close();
    return std::vector<std::string>{"transform.h5"};
  });
  const codec::CodebookSet set = codec::read_codebooks(in, "/codebook");
  for (const auto& [side, books] : graph.nodes[static_cast<std::size_t>(nodes.kmeans)].inputs) {
    for (const auto& [input_name, input] : graph.nodes[static_cast<std::size_t>(books)].inputs) runner.make(input);
    store.make(*runner.key(books), {}, [&](artifact::Pending& pending) {
      codec::CodebookSet one;
      (side == "key" ? one.key : one.value) = side == "key" ? set.key : set.value;
      const codec::CodebookFacts facts = codec::read_codebook_facts(in, side, "/codebook");
      auto file = artifact::H5File::create(pending.path("codebook.h5"));
      codec::write_codebooks(one, facts, facts, codec::read_shape(in, "/codebook"), file);
      file.close();
      return std::vector<std::string>{"codebook.h5"};
    });
  }
  runner.make(nodes.kmeans);
  // Tuned books came in the file; they stand in for those of k-means too, which did not.
  if (nodes.codebook != nodes.kmeans)
    store.make(*runner.key(nodes.codebook), {}, [&](artifact::Pending& pending) {
      auto file = artifact::H5File::create(pending.path("codebook.h5"));
      codec::CodebookFacts key, value;
      if (!set.key.empty()) key = codec::read_codebook_facts(in, "key", "/codebook");
      if (!set.value.empty()) value = codec::read_codebook_facts(in, "value", "/codebook");
      codec::write_codebooks(set, key, value, codec::read_shape(in, "/codebook"), file);
      file.close();
      return std::vector<std::string>{"codebook.h5"};
    });
  runner.make(nodes.codebook);
  std::printf("imported as method '%s'\n", session.plan().methods[m].name.c_str());
  return 0;
}

}  // namespace vi::pipeline
