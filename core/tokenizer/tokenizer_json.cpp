// Tokenizer::from_json: Hugging Face's tokenizer.json. Only what we give the same ids for is
// accepted.
#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/strict_json.h"
#include "core/common/utf8.h"
#include "core/tokenizer/tokenizer_impl.h"

namespace vi::model {
namespace {

std::int32_t read_id(const JsonView& value) {
  const std::int64_t id = value.integer();
  if (id < 0 || id >= kMaxTokenId)
    value.reject(fmt::format("a token id of 0..{}, got {}", kMaxTokenId - 1, id));
  return static_cast<std::int32_t>(id);
}

std::string type_of(const JsonView& value) { return value.at("type").string(); }

// NFC, Prepend, Replace of a plain string, or a Sequence of them.
void read_normalizer(const JsonView& value, Normalizer& steps, int depth = 0) {
  const std::string type = type_of(value);
  if (type == "Sequence" && depth == 0) {
    const JsonView list = value.at("normalizers").array();
    if (list.size() > 16) list.reject("at most 16 steps");
    for (std::size_t i = 0; i < list.size(); ++i) read_normalizer(list.at(i), steps, 1);
  } else if (type == "NFC") {
    steps.add_nfc();
  } else if (type == "Prepend") {
    steps.add_prepend(value.at("prepend").string());
  } else if (type == "Replace") {
    const JsonView pattern = value.at("pattern").object();
    if (!pattern.has("String") || pattern.at("String").string().empty())
      pattern.reject("a String that is not empty");
    steps.add_replace(pattern.at("String").string(), value.at("content").string());
  } else {
    value.reject("NFC, Prepend, Replace or a Sequence of them, got " + printable(type));
  }
}

void read_metaspace(const JsonView& value, PreTokenizer& steps) {
  using Prepend = PreTokenizer::Prepend;
  if (value.string("replacement", std::string(kSpaceMark)) != kSpaceMark)
    value.at("replacement").reject("U+2581");
  // Files of before `prepend_scheme` have `add_prefix_space`.
  const std::string scheme = value.string(
      "prepend_scheme", value.boolean("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    value.at("prepend_scheme").reject("always, first or never, got " + printable(scheme));
  steps.add_metaspace(kSpaceMark,
                      scheme == "always"  ? Prepend::always
                      : scheme == "first" ? Prepend::first
                                          : Prepend::never,
                      value.boolean("split", true));
}

// The decoder of tokens by characters: U+2581 becomes a space, byte tokens bytes, all is joined, and one
// space may go from the front. Nothing else gives the text that piece_bytes() does.
void read_piece_decoder(const JsonView& json, Tokenizer::Impl& impl) {
  const auto wanted = [](const JsonView& at) {
    at.reject("a Sequence of Replace (U+2581 by a space), ByteFallback, Fuse and Strip");
  };
  if (!json.has("decoder")) wanted(json.at("decoder"));
  const JsonView decoder = json.at("decoder");
  if (type_of(decoder) != "Sequence") wanted(decoder);
  const JsonView list = decoder.at("decoders").array();
  if (list.size() != 3 && list.size() != 4) wanted(list);
  const char* types[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
  for (std::size_t i = 0; i < list.size(); ++i)
    if (type_of(list.at(i)) != types[i]) wanted(list.at(i));
  const JsonView replace = list.at(std::size_t{0});
  if (replace.at("pattern").string("String", "") != kSpaceMark ||
      replace.at("content").string() != " ")
    wanted(replace);
  if (list.size() == 3) return;
  const JsonView strip = list.at(std::size_t{3});
  if (strip.at("content").string() != " " || strip.at("start").integer() != 1 ||
      strip.at("stop").integer() != 0)
    strip.reject("Strip of one space from the start");
  impl.strip_space = true;
}

// Adds the steps; true once ByteLevel was among them.
bool read_pre_tokenizer(const JsonView& value, const std::string& place, PreTokenizer& steps) {
  const std::string type = type_of(value);
  if (type == "Sequence") {
    const JsonView list = value.at("pretokenizers").array();
    if (list.size() > 16) list.reject("at most 16 steps");
    bool byte_level = false;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (byte_level) list.at(i).reject("ByteLevel as the last step");
      if (type_of(list.at(i)) == "Sequence") list.at(i).reject("no Sequence inside a Sequence");
      byte_level = read_pre_tokenizer(list.at(i), place, steps);
    }
    return byte_level;
  }
  if (type == "Metaspace") value.reject("Metaspace as the only step");
  if (type == "Digits") {
    if (!value.boolean("individual_digits", false)) value.reject("Digits with individual_digits");
    steps.add_digits();
    return false;
  }
  if (type == "Split") {
    const JsonView pattern = value.at("pattern").object();
    if (!pattern.has("Regex")) pattern.reject("a Regex");
    if (value.at("behavior").string() != "Isolated" || value.boolean("invert", false))
      value.reject("Split with behavior Isolated, not inverted");
    steps.add_regex(pattern.at("Regex").string(), place + ": pre_tokenizer");
    return false;
  }
  if (type != "ByteLevel")
    value.reject("ByteLevel, Digits, Split or a Sequence of them, got " + printable(type));
  if (value.boolean("add_prefix_space", true)) value.reject("ByteLevel without add_prefix_space");
  if (value.boolean("use_regex", true)) steps.add_regex(kGpt2Regex, place);
  return true;
}

// TemplateProcessing puts ids before and after; ByteLevel changes offsets only.
void read_post_processor(const JsonView& value, const std::string& place, Tokenizer::Impl& impl,
                         int depth = 0) {
  const std::string type = type_of(value);
  if (type == "ByteLevel") return;
  if (type == "Sequence" && depth == 0) {
    const JsonView list = value.at("processors").array();
    if (list.size() > 16) list.reject("at most 16 steps");
    for (std::size_t i = 0; i < list.size(); ++i) read_post_processor(list.at(i), place, impl, 1);
    return;
  }
  if (type != "TemplateProcessing")
    value.reject("ByteLevel, TemplateProcessing or a Sequence of them, got " + printable(type));
  if (!impl.prefix.empty() || !impl.suffix.empty()) value.reject("one TemplateProcessing");
  const JsonView single = value.at("single").array();
  if (single.size() > 64) single.reject("at most 64 pieces");
  bool seen = false;
  for (std::size_t i = 0; i < single.size(); ++i) {
    const JsonView piece = single.at(i).object();
    if (piece.has("Sequence")) {
      if (seen) piece.reject("one Sequence");
      seen = true;
      continue;
    }
    const std::string name = piece.at("SpecialToken").at("id").string();
    const JsonView tokens = value.at("special_tokens").object();
    const auto it = tokens.raw().find(name);
    if (it == tokens.raw().end()) tokens.reject("the token " + printable(name));
    const JsonView entry(*it, place, "post_processor.special_tokens");
    const JsonView ids = entry.at("ids").array();
    if (ids.size() > 64) ids.reject("at most 64 ids");
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const std::int32_t id = read_id(ids.at(k));
      if (static_cast<std::size_t>(id) >= impl.used.size() ||
          !impl.used[static_cast<std::size_t>(id)])
        ids.at(k).reject(fmt::format("an id of the vocabulary, got {}", id));
      (seen ? impl.suffix : impl.prefix).push_back(id);
    }
  }
  if (!seen) single.reject("a Sequence");
}

void read_merges(const JsonView& list, const std::string& place, Tokenizer::Impl& impl) {
  std::size_t index = 0;
  list.array();
  for (const auto& value : list.raw()) {
    std::string_view left, right;
    if (value.is_string()) {
      const std::string_view text = value.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
    } else if (value.is_array() && value.size() == 2 && value[0].is_string() &&
               value[1].is_string()) {
      left = value[0].get_ref<const std::string&>();
      right = value[1].get_ref<const std::string&>();
    }
    if (left.empty() || right.empty() || !impl.bpe.add_merge(impl.ids, left, right))
      fail<ContractError>("{}: model.merges[{}]: expected two tokens whose union is a token", place,
                          index);
    ++index;
  }
  impl.bpe.finish();
}

void read_model(const JsonView& model, const std::string& place, Tokenizer::Impl& impl) {
  if (model.string("type", "BPE") != "BPE") model.at("type").reject("BPE");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.string(key, "").empty()) model.at(key).reject("null");
  if (model.number("dropout", 0.0) != 0.0) model.at("dropout").reject("null");
  Bpe::Options options;
  options.characters = impl.pieces;
  options.byte_fallback = model.boolean("byte_fallback", false);
  if (options.byte_fallback && !impl.pieces)
    model.at("byte_fallback").reject("false with a ByteLevel pre_tokenizer");
  const JsonView vocab = model.at("vocab").object();
  // Ids need not be dense, but a file of a few entries must not make us keep millions.
  const std::size_t sparse = 16 * vocab.size() + 100'000;
  for (const auto& [spelling, value] : vocab.raw().items()) {
    const std::int32_t id = read_id(JsonView(value, place, "model.vocab: " + printable(spelling)));
    if (static_cast<std::size_t>(id) > sparse)
      vocab.reject(fmt::format("ids near the {} tokens, got {}", vocab.size(), id));
    if (!impl.add_spelling(spelling, id))
      fail<ContractError>("{}: model.vocab: {}: expected each id once, got {} again", place,
                          printable(spelling), id);
  }
  options.ignore_merges = model.boolean("ignore_merges", false);
  options.fuse_unk = model.boolean("fuse_unk", false);
  if (model.has("unk_token")) {
    const auto it = impl.ids.find(model.at("unk_token").string());
    if (it == impl.ids.end()) model.at("unk_token").reject("a token of the vocabulary");
    options.unk_id = it->second;
  }
  impl.bpe = Bpe(impl.ids, options);
  read_merges(model.at("merges"), place, impl);
}

}  // namespace

Tokenizer Tokenizer::from_json(std::string_view text, std::string_view place_view) {
  const std::string place(place_view);
  const nlohmann::json document = parse_strict_json(text, place);
  const JsonView json = JsonView(document, place).object();
  auto impl = std::make_unique<Impl>();
  const JsonView model = json.at("model").object();
  if (json.has("normalizer")) read_normalizer(json.at("normalizer"), impl->normalizer);
  // Tokens are spelled in byte letters where ByteLevel ends the pre-tokenizer, as SentencePiece's pieces
  // where Metaspace or nothing stands there.
  if (!json.has("pre_tokenizer")) {
    impl->pieces = true;
  } else if (const JsonView pre = json.at("pre_tokenizer"); type_of(pre) == "Metaspace") {
    impl->pieces = true;
    read_metaspace(pre, impl->pre);
  } else if (!read_pre_tokenizer(pre, place, impl->pre)) {
    pre.reject("one that ends in ByteLevel, Metaspace alone, or null");
  }
  if (impl->pieces)
    read_piece_decoder(json, *impl);
  else if (json.has("decoder") && type_of(json.at("decoder")) != "ByteLevel")
    json.at("decoder").reject("ByteLevel");
  read_model(model, place, *impl);
  if (json.has("added_tokens")) {
    const JsonView list = json.at("added_tokens").array();
    if (list.size() > 1'000'000) list.reject("at most 1,000,000 tokens");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const JsonView entry = list.at(i).object();
      AddedToken token;
      token.content = entry.at("content").string();
      token.id = read_id(entry.at("id"));
      token.special = entry.boolean("special", false);
      token.normalized = entry.boolean("normalized", !token.special);
      token.lstrip = entry.boolean("lstrip", false);
      token.rstrip = entry.boolean("rstrip", false);
      token.single_word = entry.boolean("single_word", false);
      if (token.content.empty()) continue;
      if (static_cast<std::size_t>(token.id) > impl->bytes.size() + list.size() + 100'000)
        entry.at("id").reject("an id near the vocabulary's");
      if (!impl->add_added(token))
        entry.reject(fmt::format("{} once and with the vocabulary's id", printable(token.content)));
    }
  }
  impl->finish();
  if (json.has("post_processor")) read_post_processor(json.at("post_processor"), place, *impl);
  if (impl->bytes.empty()) json.at("model").at("vocab").reject("at least one token");
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_json_file(const std::filesystem::path& path) {
  return from_json(read_file(path), path.string());
}

}  // namespace vi::model
