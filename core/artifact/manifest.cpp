#include "core/artifact/manifest.h"

#include <algorithm>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"

namespace vi::artifact {
namespace {

bool is_hash(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_file_name(std::string_view name) {
  constexpr std::string_view allowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name[0] != '.' && name != kManifestName && name.size() <= 200 &&
         name.find_first_not_of(allowed) == std::string_view::npos;
}

const Json& field(const Json& object, const char* name, Json::value_t type,
                  std::string_view place) {
  const auto found = object.find(name);
  const bool good = found != object.end() &&
                    (found->type() == type || (type == Json::value_t::number_integer &&
                                               found->type() == Json::value_t::number_unsigned));
  if (!good) fail<ContractError>("{}: expected '{}' as {}", place, name, Json(type).type_name());
  return *found;
}

}  // namespace

std::string StageKey::key() const {
  Json json = {
      {"stage", stage}, {"version", version}, {"fields", fields}, {"inputs", Json::object()}};
  for (const auto& [name, hash] : inputs) json["inputs"][name] = hash;
  return sha256_hex(canonical_json(json));
}

std::string Manifest::content_hash() const {
  Json json = Json::object();
  for (const auto& [file, output] : outputs) json[file] = output.sha256;
  return sha256_hex(canonical_json(json));
}

std::string Manifest::text() const {
  Json json = {{"stage", stage.stage},   {"version", stage.version}, {"key", stage.key()},
               {"fields", stage.fields}, {"inputs", Json::object()}, {"outputs", Json::object()}};
  for (const auto& [name, hash] : stage.inputs) json["inputs"][name] = hash;
  for (const auto& [file, output] : outputs)
    json["outputs"][file] = {{"sha256", output.sha256}, {"bytes", output.bytes}};
  return nlohmann::json(json).dump(2) + "\n";
}

Manifest Manifest::parse(std::string_view text, std::string_view place) {
  using Type = Json::value_t;
  const Json json = parse_json(text, place);
  if (!json.is_object()) fail<ContractError>("{}: expected a JSON object", place);
  Manifest manifest;
  StageKey& stage = manifest.stage;
  stage.stage = field(json, "stage", Type::string, place).get<std::string>();
  const auto version = field(json, "version", Type::number_integer, place).get<std::int64_t>();
  if (version < 0 || version > 1'000'000'000)
    fail<ContractError>("{}: expected a small whole 'version'", place);
  stage.version = static_cast<int>(version);
  stage.fields = field(json, "fields", Type::object, place);
  for (const auto& [name, hash] : field(json, "inputs", Type::object, place).items()) {
    if (!hash.is_string() || !is_hash(hash.get<std::string>()))
      fail<ContractError>("{}: inputs: expected the SHA-256 of '{}'", place, name);
    stage.inputs[name] = hash.get<std::string>();
  }
  for (const auto& [file, output] : field(json, "outputs", Type::object, place).items()) {
    const std::string where = fmt::format("{}: outputs: '{}'", place, file);
    if (!is_file_name(file) || !output.is_object())
      fail<ContractError>("{}: expected a plain file name with its hash and size", where);
    OutputFile entry;
    entry.sha256 = field(output, "sha256", Type::string, where).get<std::string>();
    const Json& bytes = field(output, "bytes", Type::number_integer, where);
    entry.bytes = bytes.get<std::int64_t>();
    if (!is_hash(entry.sha256) || entry.bytes < 0)
      fail<ContractError>("{}: expected a SHA-256 and a size", where);
    manifest.outputs[file] = entry;
  }
  if (field(json, "key", Type::string, place).get<std::string>() != stage.key())
    fail<ContractError>("{}: expected key {} of the fields and inputs given", place, stage.key());
  return manifest;
}

Manifest Manifest::read(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestName;
  return parse(read_file(path), path.string());
}

}  // namespace vi::artifact
