#include "core/chat/jinja.h"

#include "core/chat/chat_template.h"
#include "tests/core/model/text_fixtures.h"

namespace vi::model {
namespace {

// Our text is Jinja2's; where Jinja2 fails, so do we, with a line.
void expect_same(const std::string& source, const Json& variables, const Json& expected,
                 const std::optional<std::tm>& now = std::nullopt) {
  try {
    const std::string got = jinja::Template(source, "t").render(variables, now);
    if (expected.contains("out"))
      EXPECT_EQ(got, expected["out"].get<std::string>()) << source;
    else
      ADD_FAILURE() << source << "\nrendered " << got
                    << "\nwhere Jinja2 fails: " << expected["error"];
  } catch (const ContractError& error) {
    const std::string text = error.what();
    EXPECT_FALSE(expected.contains("out")) << source << "\n" << text;
    EXPECT_TRUE(text.starts_with("t: line ")) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

TEST(Jinja, ExpressionsAndWhiteSpaceAsJinja2) {
  const Json all = Json::parse(read_file(fixture("jinja_cases.json")));
  for (const Json& c : all["cases"]) expect_same(c["template"], all["variables"], c);
}

TEST(Jinja, ChatTemplatesAsJinja2) {
  const Json all = Json::parse(read_file(fixture("chat_cases.json")));
  std::tm july{};  // 9 July 2024
  july.tm_year = 124;
  july.tm_mon = 6;
  july.tm_mday = 9;
  for (const Json& c : all["cases"]) {
    SCOPED_TRACE(c["file"].get<std::string>() + c["talk"].dump() + c["option"].dump());
    Json variables = {{"messages", all["talks"][c["talk"].get<std::size_t>()]},
                      {"add_generation_prompt", c["generate"]},
                      {"documents", nullptr},
                      {"bos_token", "<s>"},
                      {"eos_token", "</s>"}};
    variables.update(all["options"][c["option"].get<std::size_t>()]);
    expect_same(read_file(fixture("chat") / c["file"].get<std::string>()), variables, c,
                c["now"].get<bool>() ? std::optional(july) : std::nullopt);
  }
}

TEST(Jinja, ErrorsNameTheLine) {
  const auto rejects = [](const std::string& source, std::initializer_list<const char*> parts) {
    expect_contract_error(
        [&] { jinja::Template(source, "model: chat_template").render(Json::object()); }, parts);
  };
  rejects("a\nb\n{% include 'x' %}", {"model: chat_template: line 3", "include"});
  rejects("\n\n{{ x | nothing }}", {"line 3", "no filter nothing"});
  rejects("\n{% if x %}\n{% for y in z %}\n{% endif %}", {"line 4", "expected"});
  rejects("\n\n{{ raise_exception('a\nb') }}", {"line 3", "raises: a\\nb"});
  rejects("{{ '%s' % 1 }}", {"line 1", "%"});
  rejects("{{ 'x'.format(1) }}", {"line 1", "format"});
  rejects("{% for x in y recursive %}{% endfor %}", {"line 1", "recursive"});
  rejects("{{ 9999999999999999999999 }}", {"line 1", "2^63"});
  rejects("\xff", {"byte 0", "UTF-8"});
  rejects("a\n\n{{ missing.part }}", {"line 3", "missing"});
  rejects("{% for m in missing.list %}{% endfor %}", {"line 1", "missing"});
  rejects("\n{{ missing + 'x' }}", {"line 2", "missing"});
}

TEST(Jinja, HostileTemplatesEnd) {
  const auto rejects = [](const std::string& source, std::initializer_list<const char*> parts) {
    expect_contract_error(
        [&] {
          jinja::Template(source, "t").render(Json::object(), std::nullopt, {.steps = 300000});
        },
        parts);
  };
  rejects("{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}", {"nesting"});
  std::string minus(100000, '-');
  rejects("{{ " + minus + "1 }}", {"nesting"});
  std::string sum = "1";
  for (int i = 0; i < 100000; ++i) sum += "+1";
  rejects("{{ " + sum + " }}", {"links"});
  std::string ifs;
  for (int i = 0; i < 100000; ++i) ifs += "{% if x %}";
  rejects(ifs, {"nesting"});
  rejects("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
          {"steps"});
  rejects("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}", {"deep"});
  rejects("{{ 'a' * 9999999999 }}", {"bytes"});
  rejects("{{ range(10 ** 9) }}", {"100000"});
  rejects(
      "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + "
      "ns.x %}{% endfor %}",
      {"t: line 1"});
  rejects("{{ 2 ** 64 }}", {"too large"});
}

TEST(ChatTemplate, MessagesAndOptions) {
  const ChatTemplate chat(read_file(fixture("chat/qwen3.jinja")), "t");
  ChatOptions options;
  options.variables["enable_thinking"] = false;
  EXPECT_EQ(chat.render(std::vector<ChatMessage>{{"system", "S"}, {"user", "U"}}, options),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>"
            "assistant\n<think>\n\n</think>\n\n");
  options.variables["enable_thinking"] = true;
  EXPECT_EQ(chat.render(std::vector<ChatMessage>{{"user", "U"}}, options),
            "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, DeepSeekBeginsToThink) {
  const ChatTemplate chat(read_file(fixture("chat/deepseek_r1.jinja")), "t");
  ChatOptions options;
  options.bos_token = "<b>";
  EXPECT_EQ(chat.render(std::vector<ChatMessage>{{"system", "S"}, {"user", "U"}}, options),
            "<b>S<\uff5cUser\uff5c>U<\uff5cAssistant\uff5c><think>\n");
  // Of an earlier turn only the answer stays.
  EXPECT_EQ(chat.render(std::vector<ChatMessage>{{"user", "U"}, {"assistant", "<think>why</think>A"}, {"user", "V"}},
                        options),
            "<b><\uff5cUser\uff5c>U<\uff5cAssistant\uff5c>A<\uff5cend\u2581of\u2581sentence\uff5c>"
            "<\uff5cUser\uff5c>V<\uff5cAssistant\uff5c><think>\n");
}

}  // namespace
}  // namespace vi::model
