#include "core/tokenizer/unicode.h"

#include "core/common/utf8.h"
#include "tests/core/model/text_fixtures.h"

namespace vi::model {
namespace {

TEST(Utf8, FindsTheFirstBadByte) {
  constexpr auto npos = std::string_view::npos;
  EXPECT_EQ(find_invalid_utf8(""), npos);
  EXPECT_EQ(find_invalid_utf8("a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80"), npos);
  EXPECT_EQ(find_invalid_utf8("\xf4\x8f\xbf\xbf\xef\xbf\xbf\xed\x9f\xbf"), npos);
  EXPECT_EQ(find_invalid_utf8("ab\x80"), 2u);
  EXPECT_EQ(find_invalid_utf8("ab\xc0\x80"), 2u);        // overlong
  EXPECT_EQ(find_invalid_utf8("\xe0\x9f\xbf"), 0u);      // overlong
  EXPECT_EQ(find_invalid_utf8("\xed\xa0\x80"), 0u);      // surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("x\xe4\xb8"), 1u);         // cut off
  EXPECT_EQ(whole_utf8_prefix("x\xe4\xb8"), 1u);
  EXPECT_EQ(whole_utf8_prefix("x\xe4\xb8\xad"), 4u);
  EXPECT_EQ(whole_utf8_prefix("\xf0\x9f\x98"), 0u);
}

TEST(Utf8, LossyReplacesMaximalParts) {
  EXPECT_EQ(utf8_lossy("a\xf0\x9f\x98z"), "a\xef\xbf\xbdz");
  EXPECT_EQ(utf8_lossy("\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(utf8_lossy("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(utf8_lossy("\xc3\xa9"), "\xc3\xa9");
}

TEST(Utf8, EveryCodePointGoesThereAndBack) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c == 0xd800) c = 0xe000;
    std::string text;
    append_utf8(text, c);
    ASSERT_EQ(find_invalid_utf8(text), std::string::npos);
    std::size_t at = 0;
    ASSERT_EQ(next_code_point(text, at), c);
    ASSERT_EQ(previous_code_point(text, at), c);
    ASSERT_EQ(at, 0u);
  }
}

TEST(Utf8, PrintableIsOneShortLine) {
  EXPECT_EQ(printable("a\nb\xff\x01\xc3\xa9"), "a\\nb\\xff\\x01\xc3\xa9");
  EXPECT_LT(printable(std::string(1000, 'x')).size(), 100u);
}

TEST(Unicode, NormalFormC) {
  for (const auto& c : json_fixture("nfc_cases.json"))
    EXPECT_EQ(nfc(c[0].get<std::string>()), c[1].get<std::string>()) << c[0];
}

TEST(Unicode, WhiteSpaceIsNotPcresIdeaOfIt) {
  EXPECT_TRUE(is_white_space(0x85) && is_white_space(0x3000) && is_white_space(' ') &&
              is_white_space('\v'));
  EXPECT_FALSE(is_white_space(0x180e) || is_white_space(0x200b) || is_white_space(0x1c));
}

}  // namespace
}  // namespace vi::model
