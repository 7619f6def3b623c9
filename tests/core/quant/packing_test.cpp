// Bulk packing writes the bytes of set_code and reads the codes of get_code; the layout by hand.
#include "core/quant/packing.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/common/rng.h"

namespace vi::quant {
namespace {

TEST(CodeLayout, ByHand) {
  const CodeLayout four{2, 4};
  EXPECT_EQ(four.block_bytes(), 16u);
  EXPECT_EQ(four.stream_bytes(0), 0u);
  EXPECT_EQ(four.stream_bytes(17), 32u);
  std::vector<std::uint8_t> stream(32, 0);
  set_code(four, stream.data(), 0, 0, 0xa);
  set_code(four, stream.data(), 1, 0, 0x3);
  set_code(four, stream.data(), 15, 1, 0xf);
  set_code(four, stream.data(), 16, 1, 0x7);
  EXPECT_EQ(stream[0], 0x3a);
  EXPECT_EQ(stream[15], 0xf0);
  EXPECT_EQ(stream[16 + 8], 0x07);

  const CodeLayout twelve{2, 12};  // low plane 2 x 16 bytes, high plane 2 x 8 bytes
  EXPECT_EQ(twelve.block_bytes(), 48u);
  std::vector<std::uint8_t> wide(48, 0);
  set_code(twelve, wide.data(), 3, 1, 0xabc);
  EXPECT_EQ(wide[16 + 3], 0xbc);
  EXPECT_EQ(wide[32 + 8 + 1], 0xa0);
  EXPECT_EQ(get_code(twelve, wide.data(), 3, 1), 0xabcu);
}

TEST(Packing, EqualsCodeByCode) {
  Rng rng(1);
  for (int bits = 1; bits <= 16; ++bits)
    for (const int books : {1, 3, 16}) {
      const CodeLayout layout{books, bits};
      for (const std::size_t first : {0, 1, 15, 16, 21})
        for (const std::size_t n : {0, 1, 15, 16, 17, 31, 32, 33, 67}) {
          std::vector<std::uint16_t> codes((first + n) * books);
          for (auto& code : codes)
            code = static_cast<std::uint16_t>(rng.next() & ((1u << bits) - 1));
          std::vector<std::uint8_t> want(layout.stream_bytes(first + n), 0);
          for (std::size_t t = 0; t < first + n; ++t)
            for (int m = 0; m < books; ++m)
              set_code(layout, want.data(), t, m, codes[t * books + m]);
          std::vector<std::uint8_t> got(want.size(), 0);
          pack_codes(layout, codes.data(), first, 0, got.data());
          pack_codes(layout, codes.data() + first * books, n, first, got.data());
          ASSERT_EQ(got, want) << bits << " " << books << " " << first << " " << n;
          std::vector<std::uint16_t> back(n * books, 0xffff);
          unpack_codes(layout, want.data(), first, n, back.data());
          ASSERT_TRUE(std::equal(back.begin(), back.end(), codes.begin() + first * books));
        }
    }
}

}  // namespace
}  // namespace vi::quant
