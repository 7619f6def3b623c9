#include "core/tokenizer/tokenizer.h"

#include <chrono>

#include "core/common/rng.h"
#include "core/tokenizer/pre_tokenizer.h"
#include "core/weights/gguf.h"
#include "tests/core/model/text_fixtures.h"

namespace vi::model {
namespace {

using Ids = std::vector<std::int32_t>;

Ids stream(const Tokenizer& tokenizer, std::string_view text, std::size_t piece,
           const EncodeOptions& options = {}) {
  Ids ids;
  StreamEncoder encoder(
      tokenizer,
      [&](std::span<const std::int32_t> part) { ids.insert(ids.end(), part.begin(), part.end()); },
      options);
  for (std::size_t i = 0; i < text.size(); i += piece) encoder.feed(text.substr(i, piece));
  encoder.finish();
  return ids;
}

TEST(Tokenizer, IdsAreHuggingFacesForEveryPreTokenizer) {
  const auto cases = json_fixture("bpe_cases.json");
  for (const char* kind : {"gpt2", "llama3", "qwen2"}) {
    SCOPED_TRACE(kind);
    const Tokenizer tokenizer =
        Tokenizer::from_json_file(fixture(std::string("bpe_") + kind + ".json"));
    for (const auto& c : cases.at(kind)) {
      const std::string text = c[0];
      EXPECT_EQ(tokenizer.encode(text, {.add_special = true}), c[1].get<Ids>()) << c[0];
    }
  }
}

// A long text with everything awkward in it: cut anywhere, the stream gives the ids of the whole.
TEST(Tokenizer, StreamGivesTheIdsOfTheWhole) {
  const auto cases = json_fixture("bpe_cases.json");
  for (const char* kind : {"gpt2", "llama3", "qwen2"}) {
    SCOPED_TRACE(kind);
    const Tokenizer tokenizer =
        Tokenizer::from_json_file(fixture(std::string("bpe_") + kind + ".json"));
    std::string text;
    Rng rng(11);
    while (text.size() < 1'500'000) {
      text += cases.at(kind)[rng.below(cases.at(kind).size())][0].get<std::string>();
      if (rng.below(3) == 0) text += " \n"[rng.below(2)];
    }
    const EncodeOptions options{.add_special = true};
    const Ids whole = tokenizer.encode(text, options);
    for (const std::size_t piece :
         {std::size_t{4093}, std::size_t{100'003}, std::size_t{1'000'000}, text.size()})
      EXPECT_EQ(stream(tokenizer, text, piece, options), whole) << piece;
  }
}

// Every place where may_cut() allows a cut, over short texts of the characters that matter.
TEST(Tokenizer, CutsAreSafe) {
  const char* alphabet[] = {" ", "\n",       "\r",           "a", "1", "'", "s",
                            ".", "\xc3\xa9", "\xe3\x80\x80", "\t"};
  Rng rng(12);
  for (const char* name : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    const PreTokenizer steps = pre_tokenizer_by_name(name, "t");
    ASSERT_NE(steps.cut_rule(), CutRule::never);
    const auto words = [&](std::string_view text) {
      std::vector<std::string> out;
      steps.split(text, [&](std::string_view word) { out.emplace_back(word); });
      return out;
    };
    int cuts = 0;
    for (int n = 0; n < 20000; ++n) {
      std::vector<std::string> parts(2 + rng.below(7));
      std::string text;
      for (auto& p : parts) text += p = alphabet[rng.below(std::size(alphabet))];
      std::size_t at = 0;
      const std::vector<std::string> whole = words(text);
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        at += parts[i].size();
        const auto point = [](const std::string& s) {
          return s.size() == 1   ? static_cast<char32_t>(s[0])
                 : s.size() == 2 ? U'\u00e9'
                                 : U'\u3000';
        };
        if (!PreTokenizer::may_cut(steps.cut_rule(), point(parts[i]), point(parts[i + 1])))
          continue;
        ++cuts;
        std::vector<std::string> both = words(std::string_view(text).substr(0, at));
        for (auto& w : words(std::string_view(text).substr(at))) both.push_back(std::move(w));
        ASSERT_EQ(both, whole) << name << " " << nlohmann::json(text).dump() << " at " << at;
      }
    }
    EXPECT_GT(cuts, 10000);
  }
}

TEST(Tokenizer, StreamHoldsLittle) {
  const Tokenizer tokenizer = Tokenizer::from_json_file(fixture("bpe_llama3.json"));
  std::size_t most = 0, ids = 0;
  StreamEncoder encoder(tokenizer, [&](std::span<const std::int32_t> part) { ids += part.size(); });
  for (int i = 0; i < 3000; ++i) {
    encoder.feed(
        "def f(x):\n    return 'the quick brown fox' + x\n\nhello world, 1234567 times; hello "
        "hello world\n");
    most = std::max(most, encoder.held_bytes());
  }
  encoder.finish();
  EXPECT_LT(most, 300'000u);
  EXPECT_GT(ids, 10'000u);
}

TEST(Tokenizer, DecodeReverses) {
  const Tokenizer tokenizer = Tokenizer::from_json_file(fixture("bpe_gpt2.json"));
  for (const auto& c : json_fixture("bpe_cases.json").at("gpt2")) {
    const std::string text = c[0];
    if (text.find("<l>") != std::string::npos || text.find("r>") != std::string::npos)
      continue;  // these take spaces
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  const Ids ids = tokenizer.encode("a<|begin|>b");
  EXPECT_EQ(tokenizer.decode(ids), "a<|begin|>b");
  EXPECT_EQ(tokenizer.decode(ids, true), "ab");
  EXPECT_GT(tokenizer.encode("a<|begin|>b", {.parse_special = false}).size(), ids.size());
  expect_contract_error([&] { tokenizer.decode(Ids{0, 1 << 20}); }, {"position 1", "1048576"});
  expect_contract_error([&] { tokenizer.decode(Ids{-1}); }, {"position 0"});
}

TEST(Tokenizer, InvalidUtf8NamesTheByte) {
  const Tokenizer tokenizer = Tokenizer::from_json_file(fixture("bpe_gpt2.json"));
  expect_contract_error([&] { tokenizer.encode("abc\xff"); }, {"text: byte 3", "UTF-8"});
  expect_contract_error([&] { stream(tokenizer, std::string(1'000'000, 'a') + "\xe4\xb8 ", 1000); },
                        {"text: byte 1000000"});
  expect_contract_error([&] { stream(tokenizer, "ab\xe4\xb8", 1); }, {"text: byte 2"});
  const auto path = scratch("bad.txt", "hello \x80");
  expect_contract_error([&] { encode_file(tokenizer, path, [](auto) {}); }, {"bad.txt: byte 6"});
  expect_contract_error([&] { encode_file(tokenizer, "gone.txt", [](auto) {}); }, {"gone.txt"});
}

TEST(Tokenizer, LongWordsAndBlanksAreFast) {
  const Tokenizer tokenizer = Tokenizer::from_json_file(fixture("bpe_llama3.json"));
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& unit : {std::string("a"), std::string(" "), std::string("\n"),
                                  std::string("!"), std::string("1")}) {
    std::string text;
    for (int i = 0; i < 1'000'000; ++i) text += unit;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 60.0);
}

TEST(Tokenizer, BadFilesAreNamed) {
  const auto rejects = [](const char* patch, std::initializer_list<const char*> parts) {
    SCOPED_TRACE(patch);
    nlohmann::json json = json_fixture("bpe_llama3.json");
    json.merge_patch(nlohmann::json::parse(patch));
    expect_contract_error([&] { Tokenizer::from_json(json.dump(), "m/tokenizer.json"); }, parts);
  };
  rejects(R"({"model":null})", {"m/tokenizer.json", "model", "missing"});
  rejects(R"({"model":{"type":"Unigram"}})", {"model.type", "BPE"});
  rejects(R"({"model":{"vocab":{"a":-1}}})", {"model.vocab: a", "-1"});
  rejects(R"({"model":{"vocab":{"zz":0}}})", {"model.vocab", "once"});
  rejects(R"({"model":{"vocab":{"zz":16777215}}})", {"model.vocab", "near"});
  rejects(R"({"model":{"merges":["a b c"]}})", {"model.merges[0]"});
  rejects(R"({"model":{"merges":["qq qq"]}})", {"model.merges[0]"});
  rejects(R"({"model":{"merges":[["a"]]}})", {"model.merges[0]"});
  rejects(R"({"model":{"byte_fallback":true}})", {"byte_fallback"});
  rejects(R"({"model":{"dropout":0.1}})", {"dropout"});
  rejects(R"({"normalizer":{"type":"Lowercase"}})", {"normalizer", "NFC", "Lowercase"});
  rejects(R"({"pre_tokenizer":{"type":"Metaspace"}})", {"decoder", "ByteFallback"});
  rejects(R"({"pre_tokenizer":null})", {"decoder", "ByteFallback"});
  rejects(R"({"pre_tokenizer":{"type":"Digits","individual_digits":true}})", {"pre_tokenizer", "ByteLevel"});
  rejects(R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true}})",
          {"add_prefix_space"});
  rejects(R"({"post_processor":{"type":"BertProcessing"}})", {"post_processor", "BertProcessing"});
  rejects(R"({"decoder":{"type":"WordPiece"}})", {"decoder", "ByteLevel"});
  rejects(R"({"added_tokens":[{"id":0,"content":"new"}]})", {"added_tokens[0]", "new"});
  rejects(R"({"added_tokens":[{"id":9999999,"content":"new"}]})", {"added_tokens[0].id"});
  for (const char* regex : {"(", "\\\\w+", "^a", "[[:alpha:]]", "a&&b[c&&d]", "\\\\p{Nope}",
                            "(?<name>a)", "(*UTF)a", "a{1,2}+"}) {
    const std::string patch =
        std::string(
            R"({"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":")") +
        regex +
        R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}})";
    rejects(patch.c_str(), {"m/tokenizer.json", "regular expression"});
  }
}

TEST(Tokenizer, ExpressionsOutsideTheTableWork) {
  nlohmann::json json = json_fixture("bpe_llama3.json");
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[^\\s]+|\\s+";
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t");
  const std::string text =
      "hello world  hello\n\xc2\xa0\xe1\xa0\x8e"
      "x 12";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(stream(tokenizer, text, 3), tokenizer.encode(text));
}

TEST(Tokenizer, EmbeddedModelHasHuggingFacesIds) {
  if (!std::filesystem::exists(smollm_gguf()))
    GTEST_SKIP() << "no " << smollm_gguf() << ": run `make setup`";
  const Tokenizer tokenizer = Tokenizer::from_gguf(GgufFile(smollm_gguf()));
  EXPECT_EQ(tokenizer.vocab_size(), 49152);
  EXPECT_EQ(tokenizer.added_tokens().size(), 17u);
  std::string all;
  Ids plain;
  for (const auto& c : json_fixture("smollm_cases.json")) {
    const std::string text = c[0];
    const Ids want = c[1].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text), want) << c[0];
    if (tokenizer.decode(want) == text) all += text;
  }
  EXPECT_EQ(stream(tokenizer, all, 1000), tokenizer.encode(all));
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_EQ(tokenizer.token_text(2), "<|im_end|>");
  EXPECT_EQ(tokenizer.eos_id(), 2);
}

}  // namespace
}  // namespace vi::model
