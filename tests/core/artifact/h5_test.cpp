// H5File: exact round trips of every dtype, byte-identical files, refused writes, hostile images.
#include "core/artifact/h5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <thread>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/half.h"
#include "core/common/rng.h"
#include "tests/core/artifact/scratch.h"

namespace vi::artifact {
namespace {

using test::message_of;
using test::Scratch;
using testing::HasSubstr;

void write_sample(const std::filesystem::path& path) {
  H5File file = H5File::create(path);
  file.set_attr("/", "model", "tiny");
  file.set_attr("/", "names", std::vector<std::string>{"a", "", "größer"});
  file.write<float>("/layer_00/key", DType::f16, {2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  file.write<std::int32_t>("/doc", DType::i32, {3}, std::vector<std::int32_t>{7, -8, 9});
  file.set_attr("/layer_00", "half", 0.5);
  for (int i = 0; i < 40; ++i)
    file.write<double>(fmt::format("/many/n{}", i), DType::f64, {1}, std::vector<double>{i * 1.0});
  file.close();
}

TEST(H5, RoundTripsEveryType) {
  const Scratch scratch;
  const auto path = scratch / "a.h5";
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  {
    H5File file = H5File::create(path);
    file.write<std::uint16_t>("/f16", DType::f16, {256, 256}, bits);
    file.write<std::uint16_t>("/bf16", DType::bf16, {65536}, bits);
    file.write<std::uint16_t>("/u16", DType::u16, {65536}, bits);
    file.write<std::uint8_t>("/u8", DType::u8, {3}, std::vector<std::uint8_t>{0, 128, 255});
    file.write<std::int32_t>("/i32", DType::i32, {2},
                             std::vector<std::int32_t>{INT32_MIN, INT32_MAX});
    file.write<std::int64_t>("/i64", DType::i64, {2},
                             std::vector<std::int64_t>{INT64_MIN, INT64_MAX});
    file.write<float>("/f32", DType::f32, {3}, std::vector<float>{-0.0f, 1e-45f, INFINITY});
    file.write<double>("/f64", DType::f64, {1, 1, 1}, std::vector<double>{0.1});
    file.write<float>("/scalar", DType::f32, {}, std::vector<float>{3});
    file.write<float>("/empty", DType::f32, {0, 5}, std::vector<float>{});
    file.close();
  }
  const H5File file = H5File::open(path);
  EXPECT_EQ(file.read<std::uint16_t>("/f16"), bits);
  EXPECT_EQ(file.read<std::uint16_t>("/bf16"), bits);
  EXPECT_EQ(file.read<std::uint16_t>("/u16"), bits);
  const auto halves = file.read<float>("/f16"), brains = file.read<float>("/bf16");
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const float half = half_to_float(bits[i]), brain = bf16_to_float(bits[i]);
    EXPECT_EQ(std::memcmp(&half, &halves[i], 4), 0) << i;
    EXPECT_EQ(std::memcmp(&brain, &brains[i], 4), 0) << i;
  }
  EXPECT_THAT(file.read<std::uint8_t>("/u8"), testing::ElementsAre(0, 128, 255));
  EXPECT_THAT(file.read<std::int32_t>("/i32"), testing::ElementsAre(INT32_MIN, INT32_MAX));
  EXPECT_THAT(file.read<std::int64_t>("/i64"), testing::ElementsAre(INT64_MIN, INT64_MAX));
  EXPECT_TRUE(std::signbit(file.read<float>("/f32")[0]));
  EXPECT_EQ(file.read<double>("/f64")[0], 0.1);
  EXPECT_THAT(file.read<float>("/scalar"), testing::ElementsAre(3));
  EXPECT_TRUE(file.read<float>("/empty").empty());
  EXPECT_EQ(file.info("/f64").shape, (Shape{1, 1, 1}));
  EXPECT_EQ(file.info("/bf16").dtype, DType::bf16);
}

TEST(H5, FloatsRoundToNearestEvenHalves) {
  const Scratch scratch;
  Rng rng(3);
  std::vector<float> values(999);
  for (float& value : values) value = static_cast<float>(rng.normal() * std::exp(8 * rng.normal()));
  H5File file = H5File::create(scratch / "a.h5");
  file.write("/a", DType::f16, {999}, values);
  const auto bits = file.read<std::uint16_t>("/a");  // reading what is being written
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(bits[i], float_to_half(values[i]));
}

TEST(H5, Slabs) {
  const Scratch scratch;
  const Shape shape{2, 5, 3};
  H5File file = H5File::create(scratch / "a.h5");
  file.create_dataset("/g/a", DType::f16, shape);
  for (std::int64_t row = 0; row < 5; ++row) {  // token by token, as the dump stage writes
    const std::vector<float> data(6, static_cast<float>(row + 1));
    file.write_slab<float>("/g/a", slab(shape, 1, row, 1), data);
  }
  file.close();
  const H5File back = H5File::open(scratch / "a.h5");
  const auto all = back.read<float>("/g/a");
  for (int h = 0; h < 2; ++h)
    for (int t = 0; t < 5; ++t)
      for (int d = 0; d < 3; ++d)
        EXPECT_EQ(all[static_cast<std::size_t>((h * 5 + t) * 3 + d)], t + 1);
  std::vector<float> part(2 * 2 * 3);
  back.read_slab<float>("/g/a", slab(shape, 1, 3, 2), part);
  EXPECT_THAT(part, testing::ElementsAre(4, 4, 4, 5, 5, 5, 4, 4, 4, 5, 5, 5));
  std::vector<float> none;
  back.read_slab<float>("/g/a", slab(shape, 1, 5, 0), none);
  EXPECT_THROW(back.read_slab<float>("/g/a", slab(shape, 1, 4, 2), part), Error);
  EXPECT_THROW(back.read_slab<float>("/g/a", slab(shape, 0, 0, 1), part), Error);
}

TEST(H5, UnwrittenDataIsZero) {
  const Scratch scratch;
  H5File file = H5File::create(scratch / "a.h5");
  file.create_dataset("/a", DType::i64, {1000});
  file.close();
  EXPECT_EQ(H5File::open(scratch / "a.h5").read<std::int64_t>("/a"),
            std::vector<std::int64_t>(1000, 0));
}

TEST(H5, Attributes) {
  const Scratch scratch;
  const auto path = scratch / "a.h5";
  {
    H5File file = H5File::create(path);
    file.write<float>("/data", DType::f32, {1}, std::vector<float>{1});
    file.set_attr("/", "text", "key, väl\nue");
    file.set_attr("/", "empty", "");
    file.set_attr("/data", "long", std::string(70000, 'x'));
    file.set_attr("/", "whole", std::int64_t{INT64_MIN});
    file.set_attr("/", "real", 0.1);
    file.set_attr("/", "real", 0.2);  // replaces
    file.set_attr("/", "texts", std::vector<std::string>{"one", "", "three"});
    file.set_attr("/", "no_texts", std::vector<std::string>{});
    file.set_attr("/", "wholes", std::vector<std::int64_t>{1, -2});
    file.close();
  }
  const H5File file = H5File::open(path);
  EXPECT_EQ(file.attr_text("/", "text"), "key, väl\nue");
  EXPECT_EQ(file.attr_text("/", "empty"), "");
  EXPECT_EQ(file.attr_text("/data", "long").size(), 70000u);
  EXPECT_EQ(file.attr_int("/", "whole"), INT64_MIN);
  EXPECT_EQ(file.attr_real("/", "real"), 0.2);
  EXPECT_EQ(file.attr_texts("/", "texts"), (std::vector<std::string>{"one", "", "three"}));
  EXPECT_TRUE(file.attr_texts("/", "no_texts").empty());
  EXPECT_EQ(file.attr_ints("/", "wholes"), (std::vector<std::int64_t>{1, -2}));
  EXPECT_TRUE(file.has_attr("/", "real"));
  EXPECT_FALSE(file.has_attr("/", "nothing"));
  EXPECT_EQ(file.attrs("/").size(), 7u);
  EXPECT_THAT(message_of<ContractError>([&] { file.attr_int("/", "text"); }),
              HasSubstr("a.h5: /@text: expected a whole number"));
  EXPECT_THAT(message_of<ContractError>([&] { file.attr_text("/", "whole"); }),
              HasSubstr("/@whole: expected text"));
  EXPECT_THAT(message_of<ContractError>([&] { file.attr_text("/", "texts"); }),
              HasSubstr("/@texts: expected one value"));
  EXPECT_THAT(message_of<ContractError>([&] { file.attr_text("/", "nothing"); }),
              HasSubstr("/@nothing: missing attribute"));
}

TEST(H5, SameBytesEveryTime) {
  const Scratch scratch;
  write_sample(scratch / "a.h5");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 keeps times in seconds
  write_sample(scratch / "b.h5");
  EXPECT_EQ(read_file(scratch / "a.h5"), read_file(scratch / "b.h5"));
}

TEST(H5, MessagesNameFilePlaceAndExpectation) {
  const Scratch scratch;
  write_sample(scratch / "a.h5");
  const H5File file = H5File::open(scratch / "a.h5");
  EXPECT_THAT(message_of<ContractError>([&] { file.read<float>("/layer_07/key"); }),
              HasSubstr("a.h5: /layer_07/key: missing, expected a dataset"));
  EXPECT_THAT(message_of<ContractError>([&] { file.read<float>("/layer_00"); }),
              HasSubstr("/layer_00: expected a dataset"));
  EXPECT_THAT(message_of<ContractError>([&] { file.read<std::int64_t>("/doc"); }),
              HasSubstr("/doc: expected dtype i64, found i32"));
  EXPECT_THAT(file.list("/"), testing::ElementsAre("doc", "layer_00", "many"));
  EXPECT_EQ(file.list("/many").size(), 40u);
  EXPECT_TRUE(file.is_group("/many"));
  EXPECT_FALSE(file.is_group("/doc"));
  EXPECT_THAT(message_of<ContractError>([&] { H5File::open(scratch / "none.h5"); }),
              HasSubstr("none.h5: cannot be read"));
  write_file_atomic(scratch / "text.h5", "no HDF5 at all");
  EXPECT_THAT(message_of<ContractError>([&] { H5File::open(scratch / "text.h5"); }),
              HasSubstr("text.h5: expected a whole HDF5 file"));
  EXPECT_THAT(message_of<ContractError>([&] { H5File::open(scratch.folder()); }),
              HasSubstr("is not a regular file"));
  EXPECT_THAT(message_of<IoError>([&] { H5File::create(scratch / "no/such/folder.h5"); }),
              HasSubstr("cannot be created"));
  H5File reading = H5File::open(scratch / "a.h5");
  EXPECT_THROW(reading.create_group("/x"), Error);
  reading.close();
  EXPECT_THROW(reading.read<float>("/doc"), Error);
}

// Every cut of a small file is an error or, never, a crash.
TEST(H5, TruncatedFiles) {
  const Scratch scratch;
  write_sample(scratch / "a.h5");
  const std::string whole = read_file(scratch / "a.h5");
  int refused = 0, n = 0;
  for (std::size_t size = 0; size < whole.size(); size += 97, ++n) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(whole.data());
    try {
      const H5File file = H5File::open_image({bytes, size}, "cut.h5");
      file.read<float>("/layer_00/key");
    } catch (const ContractError&) {
      ++refused;
    }
  }
  EXPECT_EQ(refused, n);
  const H5File file = H5File::open_image(
      {reinterpret_cast<const std::uint8_t*>(whole.data()), whole.size()}, "image");
  EXPECT_THAT(file.read<float>("/layer_00/key"), testing::ElementsAre(1, 2, 3, 4, 5, 6));
}

// A full disk at every possible size: IoError at a write or at close, nothing else, and the library
// stays usable. RLIMIT_FSIZE holds for the whole process, so in a child.
TEST(H5, FullDisk) {
  const Scratch scratch;
  write_sample(scratch / "whole.h5");
  const auto size = static_cast<rlim_t>(std::filesystem::file_size(scratch / "whole.h5"));
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    int wrong = 0;
    for (rlim_t limit = 0; limit < size; limit += 257) {
      const rlimit file_size{limit, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &file_size);
      try {
        write_sample(scratch / "full.h5");
        ++wrong;
      } catch (const IoError& error) {
        if (std::string(error.what()).find("full.h5: cannot be written: File too large") ==
            std::string::npos)
          ++wrong;
      } catch (...) {
        ++wrong;
      }
    }
    const rlimit file_size{RLIM_INFINITY, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &file_size);
    try {
      write_sample(scratch / "again.h5");
      if (read_file(scratch / "again.h5") != read_file(scratch / "whole.h5")) ++wrong;
    } catch (...) {
      ++wrong;
    }
    ::_exit(wrong > 255 ? 255 : wrong);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(H5, ThreadsTakeTurns) {
  const Scratch scratch;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      const auto path = scratch / fmt::format("{}.h5", i);
      write_sample(path);
      EXPECT_EQ(H5File::open(path).list("/many").size(), 40u);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace vi::artifact
