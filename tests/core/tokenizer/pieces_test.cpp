// SentencePiece-style tokenizers (tokenizer.json of Mistral's and Llama 2's kind, GGUF's `llama`):
// ids and texts of Hugging Face's `tokenizers`, fixtures by make_text_fixtures.py.
#include "core/common/utf8.h"
#include "core/tokenizer/tokenizer.h"
#include "core/weights/gguf.h"
#include "tests/core/model/text_fixtures.h"

namespace vi::model {
namespace {

using Ids = std::vector<std::int32_t>;

// Texts were decoded from the ids behind the first `skip`.
void expect_cases(const Tokenizer& tokenizer, const nlohmann::json& cases, std::size_t skip) {
  ASSERT_GE(cases.size(), 50u);
  std::size_t decoded = 0;
  for (const auto& c : cases) {
    const Ids want = c[1].get<Ids>();
    EXPECT_EQ(tokenizer.encode(c[0].get<std::string>(), {.add_special = true}), want) << c[0];
    const auto text = c[2].get<std::string>();
    if (text.find("\xef\xbf\xbd") != std::string::npos) continue;  // ours keeps the bytes
    EXPECT_EQ(tokenizer.decode(std::span(want).subspan(skip)), text) << c[0];
    ++decoded;
  }
  EXPECT_GE(decoded, cases.size() / 2);
}

TEST(Pieces, IdsAndTextsAreHuggingFaces) {
  const auto cases = json_fixture("pieces_cases.json");
  for (const char* kind : {"legacy", "metaspace_first", "metaspace_always", "metaspace_never"}) {
    SCOPED_TRACE(kind);
    expect_cases(
        Tokenizer::from_json_file(fixture(std::string("pieces_") + kind + ".json")),
        cases.at(kind), 0);
  }
}

TEST(Pieces, ScoresOfAGgufRankTheMerges) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(GgufFile(fixture("pieces.gguf")));
  EXPECT_EQ(tokenizer.prefix_ids(), (Ids{1}));
  EXPECT_TRUE(tokenizer.is_special(3));
  expect_cases(tokenizer, json_fixture("pieces_cases.json").at("gguf"), 1);  // BOS
}

TEST(Pieces, BytesFallBack) {
  const Tokenizer tokenizer = Tokenizer::from_json_file(fixture("pieces_metaspace_first.json"));
  const std::string text = "\xf0\x9f\xa6\x99";  // four byte tokens
  const Ids ids = tokenizer.encode(text);
  EXPECT_GE(ids.size(), 4u);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.token_text(ids.back()), "\x99");
}

TEST(Pieces, TheStreamGivesTheIdsOfTheWhole) {
  const Tokenizer tokenizer = Tokenizer::from_json_file(fixture("pieces_metaspace_first.json"));
  std::string text;
  for (int i = 0; i < 30000; ++i) text += "the quick  brown fox </s> \n";
  Ids ids;
  StreamEncoder encoder(tokenizer, [&](std::span<const std::int32_t> part) {
    ids.insert(ids.end(), part.begin(), part.end());
  });
  for (std::size_t i = 0; i < text.size(); i += 4099)
    encoder.feed(std::string_view(text).substr(i, 4099));
  encoder.finish();
  EXPECT_EQ(ids, tokenizer.encode(text));
}

TEST(Pieces, BadFilesAreNamed) {
  const auto rejects = [](const char* patch, std::initializer_list<const char*> parts) {
    SCOPED_TRACE(patch);
    nlohmann::json json = json_fixture("pieces_metaspace_first.json");
    json.merge_patch(nlohmann::json::parse(patch));
    expect_contract_error([&] { Tokenizer::from_json(json.dump(), "m/tokenizer.json"); }, parts);
  };
  rejects(R"({"model":null})", {"m/tokenizer.json", "model", "missing"});
  rejects(R"({"model":{"merges":null}})", {"model.merges", "missing"});
  rejects(R"({"model":{"vocab":null}})", {"model.vocab", "missing"});
  rejects(R"({"model":{"unk_token":"nope"}})", {"unk_token"});
  rejects(R"({"decoder":null})", {"decoder"});
  rejects(R"({"decoder":{"type":"ByteLevel"}})", {"decoder", "ByteFallback"});
  rejects(R"({"decoder":{"decoders":[{"type":"Fuse"}]}})", {"decoder", "ByteFallback"});
  rejects(R"({"normalizer":{"type":"Lowercase"}})", {"normalizer", "Lowercase"});
  rejects(R"({"normalizer":{"type":"Precompiled"}})", {"normalizer", "Precompiled"});
  rejects(R"({"normalizer":{"type":"Replace","pattern":{"Regex":" +"},"content":" "}})",
          {"normalizer.pattern", "String"});
  rejects(R"({"normalizer":{"type":"Replace","pattern":{"String":""},"content":" "}})",
          {"normalizer.pattern"});
  rejects(R"({"pre_tokenizer":{"replacement":"_"}})", {"replacement"});
  rejects(R"({"pre_tokenizer":{"prepend_scheme":"twice"}})", {"prepend_scheme", "twice"});
  rejects(R"({"pre_tokenizer":{"type":"Whitespace"}})", {"pre_tokenizer", "Whitespace"});
}

}  // namespace
}  // namespace vi::model
