// Tasks as data: every YAML reads, prompts are the official bytes, bad YAML and bad records are
// named.
#include "eval/benchmark/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "eval/scorers/registry.h"
#include "eval/benchmark/text_records.h"
#include "eval/benchmark/truncate.h"

namespace vi::eval {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kTasks = VI_SOURCE_DIR "/eval/tasks";
const fs::path kShared = VI_SOURCE_DIR "/../shared/data";

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "(nothing was thrown)";
}

fs::path scratch(const std::string& name) {
  const fs::path folder = fs::temp_directory_path() / ("vi_task_test_" + name);
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

void write(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

constexpr std::string_view kYaml =
    "version: 1\nfile: t.jsonl\nlanguage: en\nprompt: \"{context} {input}\"\nmax_new_tokens: 8\n"
    "metric: qa_f1\n";

TEST(Tasks, EveryFileReads) {
  const TaskLibrary library(kTasks);
  EXPECT_EQ(library.task_names().size(), 21u + 13u + 5u);
  for (const std::string& name : library.task_names()) {
    const Task task = library.task(name);
    EXPECT_EQ(task.name, name);
    EXPECT_GE(task.version, 1);
    EXPECT_FALSE(task.description.empty()) << name;
    EXPECT_NO_THROW(find_metric(task.metric)) << name;
  }
  for (const std::string& name : library.group_names())
    EXPECT_EQ(library.expand(name).size(), library.group(name).tasks.size()) << name;
  EXPECT_EQ(library.expand("longbench/paper13").size(), 13u);
  EXPECT_EQ(library.expand("longbench/all").size(), 21u);
  EXPECT_EQ(library.expand("longbench/e").size(), 13u);
  EXPECT_EQ(library.expand("longbench/qasper").size(), 1u);
}

TEST(Tasks, LongBenchFollowsTheOfficialScripts) {
  const TaskLibrary library(kTasks);
  std::string prompts;
  for (const Task& task : library.expand("longbench/all")) {
    const std::string bare = task.name.substr(task.name.find('/') + 1);
    const bool few_shot =
        bare == "trec" || bare == "triviaqa" || bare == "samsum" || bare == "lsht";
    const bool code = bare == "lcc" || bare == "repobench-p";
    EXPECT_EQ(task.chat_template, !few_shot && !code) << bare;
    EXPECT_EQ(task.post_process == PostProcess::first_line, few_shot) << bare;
    EXPECT_EQ(task.language == "code", code) << bare;
    EXPECT_EQ(task.truncation, Truncation::middle);
    EXPECT_EQ(task.stop.last_token_of, bare == "samsum" ? "\n" : "") << bare;
    EXPECT_EQ(task.stop.min_new_tokens, bare == "samsum" ? 1 : 0) << bare;
    EXPECT_EQ(task.file, bare + ".jsonl");
    prompts += bare + "\n" + task.prompt + "\n" + std::to_string(task.max_new_tokens) + "\n";
  }
  // Holds the prompts where ../shared is absent; the next test compares them with the official
  // file.
  EXPECT_EQ(sha256_hex(prompts),
            "551417a3b4d76e2609c3e08ed7f8d10bda5b4cceec087bbbcb1aac2a272c893b");
  for (const Task& e : library.expand("longbench/e")) {
    Task plain = library.task(e.name.substr(0, e.name.size() - 2));
    EXPECT_EQ(e.file, plain.file.substr(0, plain.file.size() - 6) + "_e.jsonl");
    plain.file = e.file;
    plain.description = e.description;
    EXPECT_EQ(config::to_json(e), config::to_json(plain)) << e.name;
  }
}

TEST(Tasks, PromptsAndLimitsAreTheOfficialBytes) {
  const fs::path prompts = kShared / "longbench/dataset2prompt.json";
  if (!fs::exists(prompts)) GTEST_SKIP() << "no " << prompts;
  const Json texts = parse_json(read_file(prompts), "dataset2prompt.json");
  const Json limits =
      parse_json(read_file(kShared / "longbench/dataset2maxlen.json"), "dataset2maxlen.json");
  ASSERT_EQ(texts.size(), 21u);
  const TaskLibrary library(kTasks);
  for (const auto& [name, text] : texts.items()) {
    const Task task = library.task("longbench/" + name);
    EXPECT_EQ(task.prompt, text.get<std::string>()) << name;
    EXPECT_EQ(task.max_new_tokens, limits.at(name).get<int>()) << name;
  }
}

TEST(Tasks, SharedRecordsAllRead) {
  if (!fs::exists(kShared / "longbench/qasper.jsonl")) GTEST_SKIP() << "no " << kShared;
  const TaskLibrary library(kTasks);
  std::size_t records = 0;
  for (const std::string& name : library.task_names()) {
    const Task task = library.task(name);
    const Documents documents = read_documents(
        task, find_task_file(task, name.starts_with("math/") ? kShared : kShared / "longbench"));
    EXPECT_FALSE(documents.documents.empty()) << name;
    EXPECT_TRUE(documents.skipped.empty()) << documents.skipped.front().message;
    records += documents.documents.size();
    const std::string prompt = render_prompt(task, documents.documents.front());
    EXPECT_GT(prompt.size(), task.prompt.size() / 2) << name;
    EXPECT_EQ(prompt.find("{context}"), std::string::npos) << name;
  }
  GTEST_LOG_(INFO) << records << " records read";
  const Task passages = library.task("longbench/passage_retrieval_en");
  EXPECT_EQ(read_documents(passages, find_task_file(passages, kShared), 3).documents.size(), 3u);
}

TEST(Tasks, UnknownNamesSayTheNearest) {
  const TaskLibrary library(kTasks);
  EXPECT_THAT(message_of([&] { library.task("longbench/qaspr"); }),
              HasSubstr("'longbench/qasper'"));
  EXPECT_THAT(message_of([&] { library.task("qasper"); }), HasSubstr("'longbench/qasper'"));
  EXPECT_THROW(TaskLibrary("/nonexistent"), ConfigError);
}

TEST(Tasks, BadYamlIsNamedWithItsPlace) {
  const struct {
    std::string text, expected;
  } cases[] = {
      {std::string(kYaml) + "metrc: qa_f1\n",
       "t.yaml:7:1: unknown key 'metrc' (did you mean 'metric'?)"},
      {"version: x\n", "t.yaml:1:10: expected a whole number"},
      {std::string(kYaml) + "metric: qa_f2\n", "given twice"},
      {"version: 1\nfile: t.jsonl\nlanguage: en\nprompt: \"{context}\"\nmax_new_tokens: 8\nmetric: "
       "qa_f2\n",
       "did you mean 'qa_f1'"},
      {"version: 1\nfile: t.jsonl\nlanguage: en\nprompt: \"{contxt}\"\nmax_new_tokens: 8\nmetric: "
       "qa_f1\n",
       "unknown field '{contxt}'"},
      {"version: 1\nfile: t.jsonl\nlanguage: en\nprompt: \"{context\"\nmax_new_tokens: 8\nmetric: "
       "qa_f1\n",
       "never closed"},
      {"version: 1\nfile: t.jsonl\nlanguage: en\nprompt: \"{context} }\"\nmax_new_tokens: "
       "8\nmetric: qa_f1\n",
       "single '}'"},
      {"version: 1\nfile: t.jsonl\nlanguage: en\nprompt: \"{context}\"\nmax_new_tokens: 0\nmetric: "
       "qa_f1\n",
       "max_new_tokens: expected 1 or more"},
      {std::string(kYaml) + "sampling: {top_p: 2}\n", "sampling.top_p"},
      {std::string(kYaml) + "stop: {min_new_tokens: 9}\n", "stop.min_new_tokens"},
      {std::string(kYaml) + "truncation: left\n", "expected one of middle, none"},
  };
  for (const auto& c : cases) {
    const fs::path folder = scratch("yaml");
    write(folder / "s/t.yaml", c.text);
    const std::string message = message_of([&] { TaskLibrary(folder).task("s/t"); });
    EXPECT_THAT(message, HasSubstr(c.expected));
    EXPECT_THAT(message, HasSubstr("t.yaml:"));
  }
  const fs::path folder = scratch("group");
  write(folder / "s/t.yaml", kYaml);
  write(folder / "s/g.yaml", "version: 1\ntasks:\n  - s/t\n  - s/u\n");
  EXPECT_THAT(message_of([&] { TaskLibrary(folder).group("s/g"); }),
              HasSubstr("g.yaml:4:5: unknown task 's/u' (did you mean 's/t'?)"));
}

TEST(Records, BadOnesAreSkippedAndNamed) {
  const fs::path folder = scratch("records");
  const std::string good =
      R"({"input":"i","context":"c","answers":["a","b"],"length":7,"all_classes":null,"_id":"x1"})";
  write(folder / "t.jsonl",
        good + "\n\n" +
            R"({"input":"i","context":"c","answers":"a","length":7,"all_classes":null})"
            "\n" +
            R"({"input":"i","context":"","answers":["a"],"length":7,"all_classes":null})"
            "\n" +
            R"({"context":"c","answers":["a"],"length":7,"all_classes":null})"
            "\n" +
            R"({"input":"i","context":"c","answers":[],"length":7,"all_classes":null})"
            "\n" +
            R"({"input":"i","context":"c","answers":[1],"length":7,"all_classes":null})"
            "\n" +
            "{\"input\":\"\xff\",\"context\":\"c\"}\n" + "[1]\n" + "{\"input\":\n" +
            R"({"input":"","context":"c","answers":["a"],"length":7.5,"all_classes":null})"
            "\n" +
            R"({"input":"","context":"c","answers":["a"],"all_classes":null})"
            "\n" +
            good);
  write(folder / "s/t.yaml", kYaml);
  const Task task = TaskLibrary(folder).task("s/t");
  const Documents documents = read_documents(task, find_task_file(task, folder));
  ASSERT_EQ(documents.documents.size(), 2u);
  EXPECT_EQ(documents.documents[0].id, "x1");
  EXPECT_EQ(documents.documents[0].length, 7);
  EXPECT_EQ(documents.documents[0].answers, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(documents.documents[1].index, 11);
  EXPECT_EQ(render_prompt(task, documents.documents[0]), "c i");
  const std::string expected[] = {
      "t.jsonl:3:answers: expected a list of texts, found string",
      "t.jsonl:4:context: expected a text, it is empty",
      "t.jsonl:5:input: the field is missing",
      "t.jsonl:6:answers: expected a list of texts, it is empty",
      "t.jsonl:7:answers: expected a list of texts, found number in it",
      "t.jsonl:8: not valid UTF-8 at byte 11",
      "t.jsonl:9: expected a JSON object",
      "t.jsonl:10: byte 10: not valid JSON",
      "t.jsonl:11:length: expected a whole number, found number",
      "t.jsonl:12:length: the field is missing",
  };
  ASSERT_EQ(documents.skipped.size(), std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i)
    EXPECT_THAT(documents.skipped[i].message, HasSubstr(expected[i]));
  Task classes = task;
  classes.metric = "classification";
  EXPECT_THAT(read_documents(classes, folder / "t.jsonl").skipped.at(0).message,
              HasSubstr(":1:all_classes:"));
  EXPECT_THROW(read_documents(task, folder / "none.jsonl"), ContractError);
  EXPECT_THROW(find_task_file(task, folder / "nowhere"), ContractError);
}

TEST(Records, TextsOfAFileOrOfItsLines) {
  const fs::path folder = scratch("texts");
  write(folder / "t.jsonl",
        "{\"text\":\"a\\nb\"}\n\n{\"txt\":\"a\"}\n{\"text\":5}\n{\"text\":\"\xe4\xb8\"}\n[]\n{\"te\n{\"text\":\"\"}");
  const TextRecords lines = read_texts(folder / "t.jsonl", "text");
  ASSERT_EQ(lines.records.size(), 2u);
  EXPECT_EQ(lines.records[0].text, "a\nb");
  EXPECT_EQ(lines.records[1].line, 8);
  const std::string expected[] = {"t.jsonl:3:text: the field is missing", "t.jsonl:4:text: expected a text, found number",
                                  "t.jsonl:5: not valid UTF-8 at byte 10", "t.jsonl:6: expected a JSON object", "t.jsonl:7: byte"};
  ASSERT_EQ(lines.skipped.size(), std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i) EXPECT_THAT(lines.skipped[i].message, HasSubstr(expected[i]));
  write(folder / "plain.txt", "first\nsecond");
  EXPECT_EQ(read_texts(folder / "plain.txt", "text").records.at(0).text, "first\nsecond");
  write(folder / "bad.txt", "ok\xff");
  EXPECT_THAT(message_of([&] { read_texts(folder / "bad.txt", "text"); }), HasSubstr("bad.txt: not valid UTF-8 at byte 3"));
  EXPECT_THROW(read_texts(folder / "none.txt", "text"), ContractError);
}

TEST(Records, MathematicsAnswers) {
  const fs::path folder = scratch("math");
  const TaskLibrary library(kTasks);
  write(folder / "gsm8k/test.jsonl",
        "{\"question\":\"q\",\"answer\":\"work\\n#### 1,234 "
        "\"}\n{\"question\":\"q\",\"answer\":\"no mark\"}\n");
  write(folder / "math/amc23.jsonl",
        "{\"id\":0,\"problem\":\"p\",\"answer\":27.0}\n{\"id\":1,\"problem\":\"p\",\"answer\":0.5}"
        "\n");
  write(folder / "math/math500_test.jsonl",
        "{\"problem\":\"p {x}\",\"answer\":\"\\\\frac12\",\"unique_id\":\"u\"}\n");
  const auto read = [&](const char* name) {
    const Task task = library.task(name);
    return read_documents(task, find_task_file(task, folder));
  };
  const Documents gsm8k = read("math/gsm8k");
  ASSERT_EQ(gsm8k.documents.size(), 1u);
  EXPECT_EQ(gsm8k.documents[0].answers[0], "1234");
  EXPECT_THAT(gsm8k.skipped.at(0).message, HasSubstr("test.jsonl:2:answer:"));
  const Documents amc = read("math/amc23");
  EXPECT_EQ(amc.documents.at(0).answers[0], "27");
  EXPECT_EQ(amc.documents.at(1).answers[0], "0.5");
  const Documents math500 = read("math/math500");
  EXPECT_EQ(math500.documents.at(0).id, "u");
  EXPECT_EQ(render_prompt(library.task("math/math500"), math500.documents[0]),
            "p {x}\nPlease reason step by step, and put your final answer within \\boxed{}.");
}

// One id a byte; 1000 is a BOS that decodes to nothing.
const TextCodec kBytes{[](std::string_view text) {
                         std::vector<std::int32_t> ids{1000};
                         for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
                         return ids;
                       },
                       [](std::span<const std::int32_t> ids) {
                         std::string text;
                         for (const std::int32_t id : ids)
                           if (id != 1000) text += static_cast<char>(id);
                         return text;
                       }};

TEST(Truncate, KeepsBothEndsOfTheIds) {
  const struct {
    std::int64_t limit;
    const char* text;
    std::int64_t after;
    bool truncated;
  } cases[] = {{12, "0123456789", 11, false},
               {11, "0123456789", 11, false},
               {10, "012356789", 10, true},
               {9, "0126789", 8, true},
               {3, "9", 2, true},
               {2, "9", 2, true}};
  for (const auto& c : cases) {
    const TruncatedPrompt result = truncate_middle("0123456789", c.limit, kBytes);
    EXPECT_EQ(result.text, c.text) << c.limit;
    EXPECT_EQ(result.tokens_before, 11);
    EXPECT_EQ(result.tokens_after, c.after) << c.limit;
    EXPECT_EQ(result.truncated, c.truncated) << c.limit;
  }
  EXPECT_EQ(truncate_middle("", 2, kBytes).text, "");
  EXPECT_THROW(truncate_middle("0123456789", 1, kBytes), Error);
}

}  // namespace
}  // namespace vi::eval
