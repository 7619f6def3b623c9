#include "pipeline/sweep/grid.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "core/codec/method.h"
#include "core/common/hash.h"
#include "pipeline/experiment.h"
#include "pipeline/paths.h"
#include "pipeline/stages/versions.h"
#include "pipeline/tasks.h"

namespace vi::pipeline {
namespace fs = std::filesystem;
using config::config_fail;
using config::Mark;
using config::Node;
namespace {

struct Setting {
  std::string key;
  Json value;
};

struct Choice {
  std::string label;
  std::vector<Setting> settings;
};

struct Axis {
  std::string name;
  Mark mark;
  std::vector<Choice> choices;
};

std::string label_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("as")) return value.at("as").get<std::string>();
  if (value.is_object() && value.contains("method")) return value.at("method").get<std::string>();
  if (value.is_array() && value.size() == 1 && value[0].is_string())
    return fs::path(value[0].get<std::string>()).filename().string();
  return value.dump();
}

Axis read_axis(const std::string& name, const Node& values) {
  Axis axis{name, values.mark, {}};
  if (values.kind == Node::Kind::map) {
    for (const auto& [label, settings] : values.fields) {
      if (settings.kind != Node::Kind::map)
        config_fail(settings.mark, "sweep: '{}.{}' expects a map of settings", name, label);
      Choice choice{label, {}};
      for (const auto& [key, value] : settings.fields)
        choice.settings.push_back({key, config::to_json(value)});
      axis.choices.push_back(std::move(choice));
    }
  } else if (values.kind == Node::Kind::sequence) {
    for (const Node& value : values.items) {
      const Json json = config::to_json(value);
      axis.choices.push_back({label_of(json), {{name, json}}});
    }
  }
  if (axis.choices.empty())
    config_fail(values.mark, "sweep: '{}' expects a list of values, or a map of label: settings",
                name);
  return axis;
}

// {"a.b": v} as nested maps inside `map`.
void put_deep(Json& map, const std::string& path, const Json& value) {
  const std::size_t dot = path.find('.');
  if (!map.is_object()) map = Json::object();
  if (dot == std::string::npos)
    map[path] = value;
  else
    put_deep(map[path.substr(0, dot)], path.substr(dot + 1), value);
}

// The paper's code for a number of payload bits (its Tables 2, 6 and 8).
Json vector_code(double bits, const Mark& mark) {
  for (const auto& [b, dsub, code] :
       {std::tuple{4.0, 2, 8}, {3.0, 4, 12}, {2.0, 4, 8}, {1.5, 8, 12}, {1.25, 8, 10}, {1.0, 8, 8}})
    if (std::abs(b - bits) < 1e-9) return Json{{"dsub", dsub}, {"bits", code}};
  config_fail(mark, "sweep: bits {}: vector codes are at hand for 4, 3, 2, 1.5, 1.25 and 1", bits);
}

void set_bits(Json& entry, const Json& value, const Mark& mark) {
  if (!value.is_number()) config_fail(mark, "sweep: bits expects numbers, found {}", value.dump());
  const double bits = value;
  const std::string name = entry.at("method");
  codec::MethodSpec preset;
  config::read(
      config::load_yaml(resolve_named(name, "methods", mark), {project_root() / "experiments"}),
      preset);
  const auto side = [&](const char* key, codec::CodeKind kind) {
    if (kind == codec::CodeKind::vector) {
      const Json code = vector_code(bits, mark);
      for (const auto& [setting, number] : code.items())
        put_deep(entry["codec"], fmt::format("{}.code.{}", key, setting), number);
    } else if (kind == codec::CodeKind::integer) {
      if (bits != std::floor(bits))
        config_fail(mark, "sweep: bits {}: the {}s of {} are whole-bit integers", bits, key, name);
      put_deep(entry["codec"], fmt::format("{}.code.bits", key), static_cast<int>(bits));
    } else if (kind != codec::CodeKind::none) {
      config_fail(mark, "sweep: bits: the code of {} has no number of bits to set", name);
    }
  };
  side("key", preset.codec.key.code.kind);
  side("value", preset.codec.value.code.kind);
}

// Which codec key an axis means; "" if it means none.
std::string codec_key(const std::string& key) {
  if (key == "window") return "window.recent";
  if (key == "sinks") return "window.sinks";
  return key.starts_with("codec.") ? key.substr(6) : "";
}

std::vector<std::string> sets_of(const std::vector<std::pair<Setting, Mark>>& settings,
                                 const Json& base_methods, bool changed) {
  Json methods = base_methods;
  std::vector<std::string> sets;
  for (const auto& [setting, mark] : settings)
    if (setting.key == "methods") {
      methods = setting.value.is_array() ? setting.value : Json::array({setting.value});
      changed = true;
    }
  for (const auto& [setting, mark] : settings) {
    const std::string codec = codec_key(setting.key);
    if (setting.key == "methods") continue;
    if (setting.key == "bits" || !codec.empty()) {
      changed = true;
      for (Json& entry : methods) {
        if (entry.is_string()) entry = Json{{"method", entry}};
        if (!entry.is_object() || !entry.contains("method"))
          config_fail(mark, "sweep: '{}': an entry of 'methods' has no name", setting.key);
        if (entry.at("method") == "fp16") continue;
        if (setting.key == "bits")
          set_bits(entry, setting.value, mark);
        else
          put_deep(entry["codec"], codec, setting.value);
      }
    } else if (setting.key == "seeds") {
      for (const char* key : {"calibration.seed", "codebook.seed"})
        sets.push_back(fmt::format("{}={}", key, setting.value.dump()));
    } else {
      sets.push_back(fmt::format("{}={}", setting.key, setting.value.dump()));
    }
  }
  if (changed) sets.push_back("methods=" + methods.dump());
  return sets;
}

// Size and time of a file or of what lies in a folder: a change of inputs makes other points.
void add_stamp(Json& stamps, const fs::path& path) {
  std::error_code code;
  if (fs::is_directory(path, code)) {
    std::vector<fs::path> inside;
    for (const auto& entry : fs::directory_iterator(path, code))
      if (entry.is_regular_file(code)) inside.push_back(entry.path());
    std::sort(inside.begin(), inside.end());
    for (const fs::path& one : inside) add_stamp(stamps, one);
    return;
  }
  stamps.push_back({path.string(), fs::file_size(path, code),
                    fs::last_write_time(path, code).time_since_epoch().count()});
}

std::string point_id(const RunArguments& arguments, const Plan& plan) {
  const Experiment& e = plan.experiment;
  Json all{{"calibration", config::to_json(e.calibration)},
           {"evaluate", config::to_json(e.evaluate)},
           {"profile", config::to_json(e.profile)},
           {"report", config::to_json(e.report)},
           {"model", config::to_json(plan.model)},
           {"batch", arguments.batch > 0 ? arguments.batch : e.generation.batch},
           {"device", arguments.device},
           {"limit", arguments.limit}};
  Json methods = Json::array();
  for (const Method& method : plan.methods) {
    Json parts = Json::array();
    for (const MethodPart& part : method.parts) parts.push_back({config::to_json(part.method.codec), part.layers, part.share});
    methods.push_back({method.name, config::to_json(method.codec), config::to_json(method.codebook), parts});
  }
  all["methods"] = methods;
  all["versions"] = {kDumpVersion,      kStatisticsVersion, kCalibrateVersion,
                     kTransformVersion, kBooksVersion,      kCodebookVersion,
                     kGradientsVersion, kTuneVersion,       kSensitivityVersion,
                     kEvaluateVersion,  kProfileVersion,    kReportVersion};
  Json stamps = Json::array();
  add_stamp(stamps, plan.model.path);
  for (const std::string& file : e.calibration.files) add_stamp(stamps, file);
  for (const TaskSpec& task : e.evaluate) {
    for (const std::string& file : task.files) add_stamp(stamps, file);
    if (!task.dir.empty()) add_stamp(stamps, task.dir);
  }
  all["inputs"] = stamps;
  return sha256_hex(canonical_json(all)).substr(0, 12);
}

}  // namespace

bool is_codec_axis(const std::string& axis) { return axis == "bits" || !codec_key(axis).empty(); }

std::string SweepPoint::text() const {
  std::string out;
  for (const auto& [name, value] : axes)
    out += fmt::format("{}{}={}", out.empty() ? "" : ", ", name, value);
  return out;
}

SweepGrid load_grid(const RunArguments& arguments) {
  Node root = config::load_yaml(arguments.yaml, {project_root() / "experiments", project_root()});
  for (const std::string& set : arguments.sets) config::apply_set(root, set);
  if (!arguments.methods.empty()) apply_overrides(root, {"", arguments.methods, "", ""});
  const Node* grid = root.find("sweep");
  if (!grid || grid->kind != Node::Kind::map || grid->fields.empty())
    fail<ConfigError>("{}: has no `sweep:` map of key.path: [values]", arguments.yaml);
  std::vector<Axis> axes;
  for (const auto& [name, values] : grid->fields) axes.push_back(read_axis(name, values));
  const Node* listed = root.find("methods");
  const Json base_methods = listed ? config::to_json(*listed) : Json::array();

  SweepGrid result;
  std::set<std::string> seen;
  std::vector<std::size_t> at(axes.size(), 0);
  for (bool more = true; more;) {
    SweepPoint point;
    std::vector<std::pair<Setting, Mark>> settings;
    for (std::size_t a = 0; a < axes.size(); ++a) {
      const Choice& choice = axes[a].choices[at[a]];
      point.axes.emplace_back(axes[a].name, choice.label);
      for (const Setting& setting : choice.settings) settings.emplace_back(setting, axes[a].mark);
    }
    point.sets = arguments.sets;
    for (std::string& set : sets_of(settings, base_methods, !arguments.methods.empty()))
      point.sets.push_back(std::move(set));
    const Overrides rest{arguments.model, "", arguments.tasks,
                         arguments.data};  // --method went into the list
    const Plan plan = load_plan(arguments.yaml, point.sets, &rest);
    result.experiment = plan.experiment.experiment;
    point.id = point_id(arguments, plan);
    if (seen.insert(point.id).second) result.points.push_back(std::move(point));
    more = false;
    for (std::size_t a = axes.size(); a-- > 0;) {
      if (++at[a] < axes[a].choices.size()) {
        more = true;
        break;
      }
      at[a] = 0;
    }
  }
  return result;
}

}  // namespace vi::pipeline
