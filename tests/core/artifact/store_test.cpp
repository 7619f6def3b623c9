// Store: keys, hits, publishing, checkpoints, two processes on one key, a full disk, and SIGKILL at
// a hundred random moments.
#include "core/artifact/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <map>
#include <thread>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/rng.h"
#include "tests/core/artifact/scratch.h"

namespace vi::artifact {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::Scratch;
using testing::HasSubstr;

StageKey key_of(int seed) {
  return {"dump",
          1,
          {{"model", "tiny"}, {"seed", seed}, {"files", {"a", "b"}}},
          {{"text", sha256_hex("text")}}};
}

Artifact make(Store& store, const StageKey& key, const std::string& bytes = "data") {
  return store.make(key, {}, [&](Pending& pending) {
    write_file_atomic(pending.path("a.txt"), bytes);
    return std::vector<std::string>{"a.txt"};
  });
}

// Every file of a tree with its bytes.
std::map<std::string, std::string> tree(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    files[fs::relative(entry.path(), folder)] =
        entry.is_regular_file() ? read_file(entry.path()) : "(folder)";
  return files;
}

TEST(Manifest, KeyIsThatOfTheContentOnly) {
  StageKey a = key_of(1);
  EXPECT_EQ(a.key().size(), 64u);
  StageKey same{"dump",
                1,
                {{"files", {"a", "b"}}, {"seed", 1}, {"model", "tiny"}},
                a.inputs};  // another order
  EXPECT_EQ(a.key(), same.key());
  for (auto change : std::vector<std::function<void(StageKey&)>>{
           [](StageKey& k) { k.stage = "other"; }, [](StageKey& k) { k.version = 2; },
           [](StageKey& k) { k.fields["seed"] = 2; },
           [](StageKey& k) {
             k.fields["files"] = {"b", "a"};
           },
           [](StageKey& k) { k.inputs["text"] = sha256_hex("x"); },
           [](StageKey& k) { k.inputs.clear(); }}) {
    StageKey other = a;
    change(other);
    EXPECT_NE(a.key(), other.key());
  }
  // A known answer: changing how keys are made would orphan every store.
  const StageKey plain{"dump", 1, Json::object(), {}};
  EXPECT_EQ(plain.key(), sha256_hex(R"({"fields":{},"inputs":{},"stage":"dump","version":1})"));
}

TEST(Manifest, RoundTripAndRefusals) {
  Manifest manifest{key_of(1), {{"a.txt", {sha256_hex("data"), 4}}}};
  const std::string text = manifest.text();
  EXPECT_EQ(Manifest::parse(text, "m").text(), text);
  EXPECT_EQ(Manifest::parse(text, "m").content_hash(), manifest.content_hash());
  const auto broken = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    const std::size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    changed.replace(at, from.size(), to);
    return message_of<ContractError>([&] { Manifest::parse(changed, "m.json"); });
  };
  EXPECT_THAT(broken("\"seed\": 1", "\"seed\": 2"), HasSubstr("m.json: expected key"));
  EXPECT_THAT(broken("\"a.txt\"", "\"../a.txt\""), HasSubstr("expected a plain file name"));
  EXPECT_THAT(broken("\"bytes\": 4", "\"bytes\": -4"), HasSubstr("expected a SHA-256 and a size"));
  EXPECT_THAT(broken("\"bytes\": 4", "\"bytes\": 4.5"), HasSubstr("expected 'bytes'"));
  EXPECT_THAT(broken("\"stage\"", "\"stags\""), HasSubstr("expected 'stage' as string"));
  EXPECT_THAT(broken("{", "["), HasSubstr("m.json: byte"));
  EXPECT_THAT(message_of<ContractError>([] { Manifest::parse("[]", "m"); }),
              HasSubstr("expected a JSON object"));
}

TEST(Store, MissThenHit) {
  const Scratch scratch;
  Store store(scratch / "store");
  EXPECT_FALSE(store.find(key_of(1)));
  EXPECT_TRUE(store.stages().empty());
  int made = 0;
  for (int i = 0; i < 2; ++i) {
    const Artifact artifact = store.make(key_of(1), {}, [&](Pending& pending) {
      ++made;
      write_file_atomic(pending.path("a.txt"), "data");
      write_file_atomic(pending.path("stray.tmp"), "left out");
      pending.save_checkpoint("half", "way");
      return std::vector<std::string>{"a.txt"};
    });
    EXPECT_EQ(read_file(artifact.checked("a.txt")), "data");
    EXPECT_EQ(artifact.folder().filename(), key_of(1).key().substr(0, 16));
    EXPECT_THAT(message_of<ContractError>([&] { artifact.checked("b.txt"); }),
                HasSubstr("has no file 'b.txt'"));
  }
  EXPECT_EQ(made, 1);
  const std::string at = "dump/" + key_of(1).folder();
  const auto files = tree(scratch / "store");
  EXPECT_EQ(files.size(),
            4u);  // two folders, the output, the manifest: no lock, no partial, no stray
  EXPECT_TRUE(files.contains(at + "/manifest.json"));
  EXPECT_EQ(files.at(at + "/manifest.json").find(scratch.folder().string()), std::string::npos);
  EXPECT_EQ(store.list("dump").size(), 1u);
  EXPECT_THAT(store.stages(), testing::ElementsAre("dump"));
}

TEST(Store, DamageIsNoticed) {
  const Scratch scratch;
  Store store(scratch / "store");
  const Artifact artifact = make(store, key_of(1));
  const fs::path file = artifact.folder() / "a.txt";
  ASSERT_EQ(store.verify().size(), 1u);
  EXPECT_EQ(store.verify()[0].problem, "");
  EXPECT_EQ(artifact.checked("a.txt"), file);
  std::ofstream(file) << "dat4";  // same size: find() cannot see it, checked() and verify() do
  EXPECT_TRUE(store.find(key_of(1)));
  EXPECT_THAT(message_of<ContractError>([&] { artifact.checked("a.txt"); }),
              HasSubstr("a.txt: expected SHA-256"));
  EXPECT_THAT(store.verify()[0].problem, HasSubstr("not those of the manifest"));
  std::ofstream(file) << "longer";
  EXPECT_FALSE(store.find(key_of(1)));
  EXPECT_THAT(store.verify()[0].problem, HasSubstr("expected 4 bytes"));
  EXPECT_EQ(read_file(make(store, key_of(1)).checked("a.txt")), "data");  // made again in its place
  std::ofstream(artifact.folder() / "extra") << "x";
  EXPECT_THAT(store.verify()[0].problem, HasSubstr("extra: is not in the manifest"));
  fs::remove(artifact.folder() / kManifestName);
  EXPECT_FALSE(store.find(key_of(1)));
  EXPECT_THAT(store.verify()[0].problem, HasSubstr("manifest.json: cannot be read"));
  make(store, key_of(1));
  EXPECT_EQ(store.verify()[0].problem, "");
}

TEST(Store, AnArtifactUnderAnotherNameIsNone) {
  const Scratch scratch;
  Store store(scratch / "store");
  const Artifact artifact = make(store, key_of(1));
  fs::copy(artifact.folder(), artifact.folder().parent_path() / key_of(2).folder());
  EXPECT_FALSE(store.find(key_of(2)));
  EXPECT_EQ(store.list("dump").size(), 1u);
  EXPECT_TRUE(store.find(make(store, key_of(2), "other").manifest().stage));
}

TEST(Store, ForceMakesAgain) {
  const Scratch scratch;
  Store store(scratch / "store");
  make(store, key_of(1), "old");
  BeginOptions options;
  options.force = true;
  const Artifact artifact = store.make(key_of(1), options, [](Pending& pending) {
    EXPECT_FALSE(pending.has_checkpoint("c"));
    write_file_atomic(pending.path("a.txt"), "new");
    return std::vector<std::string>{"a.txt"};
  });
  EXPECT_EQ(read_file(artifact.checked("a.txt")), "new");
  EXPECT_EQ(tree(scratch / "store").size(), 4u);
}

TEST(Store, CheckpointsSurvive) {
  const Scratch scratch;
  Store store(scratch / "store");
  std::string binary("\0\n\xff", 3);
  {
    auto pending = store.begin(key_of(1));
    ASSERT_TRUE(pending);
    EXPECT_FALSE(pending->has_checkpoint("a"));
    pending->save_checkpoint("a", binary);
    pending->save_checkpoint("empty", "");
    pending->save_checkpoint("damaged", "0123456789");
    write_file_atomic(pending->path("half.h5"), "half an output");
    write_file_atomic(pending->path("lines.jsonl"), "{}\n");
    EXPECT_THROW(pending->save_checkpoint("../x", ""), Error);
  }
  const fs::path checkpoints =
      scratch / "store" / "dump" / (key_of(1).folder() + ".partial") / "checkpoints";
  std::string text = read_file(checkpoints / "damaged");
  text.back() ^= 1;
  std::ofstream(checkpoints / "damaged") << text;
  BeginOptions options;
  options.keep = {"lines.jsonl"};
  auto pending = store.begin(key_of(1), options);
  ASSERT_TRUE(pending);
  EXPECT_EQ(pending->load_checkpoint("a"), binary);
  EXPECT_EQ(pending->load_checkpoint("empty"), "");
  EXPECT_FALSE(pending->load_checkpoint("damaged"));
  EXPECT_FALSE(fs::exists(pending->path("half.h5")));
  EXPECT_TRUE(fs::exists(pending->path("lines.jsonl")));
  EXPECT_THAT(message_of<Error>([&] { pending->publish({"never_written"}); }),
              HasSubstr("has not written"));
  EXPECT_FALSE(store.find(key_of(1)));
}

TEST(Store, ExplainMiss) {
  const Scratch scratch;
  Store store(scratch / "store");
  EXPECT_EQ(store.explain_miss(key_of(1)).text(), "no artifact of this stage yet");
  make(store, key_of(1));
  StageKey far = key_of(9);
  far.fields["model"] = "large";
  far.fields["new"] = {{"deep", true}};
  make(store, far);
  StageKey wanted = key_of(2);
  Miss miss = store.explain_miss(wanted);
  EXPECT_EQ(miss.nearest, key_of(1).key());
  EXPECT_EQ(miss.field, "fields.seed");
  EXPECT_EQ(miss.wanted, "2");
  EXPECT_EQ(miss.found, "1");
  EXPECT_EQ(miss.differences, 1);
  EXPECT_THAT(miss.text(), HasSubstr("fields.seed is 1, wanted 2"));
  wanted = key_of(1);
  wanted.fields["files"] = {"a", "c", "d"};
  miss = store.explain_miss(wanted);
  EXPECT_EQ(miss.field, "fields.files[1]");
  EXPECT_EQ(miss.differences, 2);
  wanted = key_of(1);
  wanted.inputs["text"] = sha256_hex("another");
  EXPECT_EQ(store.explain_miss(wanted).field, "inputs.text");
  wanted = key_of(1);
  wanted.version = 2;
  EXPECT_EQ(store.explain_miss(wanted).field, "version");
  wanted = far;
  wanted.fields["new"] = Json::object();
  EXPECT_THAT(store.explain_miss(wanted).text(), HasSubstr("fields.new"));
}

// RLIMIT_FSIZE as a full disk: nothing is published, and with room again the same key is made.
TEST(Store, FullDisk) {
  const Scratch scratch;
  Store store(scratch / "store");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    int wrong = 0;
    for (rlim_t limit : {0, 10, 100, 300}) {
      const rlimit file_size{limit, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &file_size);
      try {
        make(store, key_of(1), std::string(50, 'x'));
        ++wrong;
      } catch (const IoError&) {
      } catch (...) {
        wrong += 10;
      }
      if (store.find(key_of(1))) wrong += 100;
    }
    ::_exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(store.find(key_of(1)));
  make(store, key_of(1), std::string(50, 'x'));
  EXPECT_EQ(tree(scratch / "store").size(), 4u);
}

TEST(Store, TheSecondProcessWaitsOrIsTold) {
  const Scratch scratch;
  Store store(scratch / "store");
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto pending = store.begin(key_of(1));
    [[maybe_unused]] const auto n = ::write(ready[1], "x", 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    write_file_atomic(pending->path("a.txt"), "data");
    pending->publish({"a.txt"});
    ::_exit(0);
  }
  char x;
  ASSERT_EQ(::read(ready[0], &x, 1), 1);
  BeginOptions now;
  now.wait = false;
  EXPECT_THAT(message_of<Error>([&] { store.begin(key_of(1), now); }),
              HasSubstr("another process"));
  int waits = 0;
  BeginOptions later;
  later.on_wait = [&] { ++waits; };
  EXPECT_FALSE(store.begin(key_of(1), later));
  EXPECT_EQ(waits, 1);
  EXPECT_TRUE(store.find(key_of(1)));
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
  EXPECT_EQ(tree(scratch / "store").size(), 4u);
}

// The work of the kill test: eight pieces through checkpoints, appended lines, an HDF5 file.
std::vector<std::string> laborious(Pending& pending) {
  LineAppender lines(pending.path("lines.jsonl"));
  std::string text = read_file(pending.path("lines.jsonl"));
  auto done = std::count(text.begin(), text.end(), '\n');
  H5File file = H5File::create(pending.path("data.h5"));
  for (int piece = 0; piece < 8; ++piece) {
    const std::string name = fmt::format("piece_{}", piece);
    std::optional<std::string> bytes = pending.load_checkpoint(name);
    if (!bytes) {
      Rng rng(static_cast<std::uint64_t>(piece));
      bytes.emplace(20'000, ' ');
      for (char& c : *bytes) c = static_cast<char>(rng.next());
      pending.save_checkpoint(name, *bytes);
    }
    if (piece >= done) lines.append(fmt::format("{{\"piece\":{}}}", piece));
    file.write<std::uint8_t>(
        fmt::format("/piece_{}", piece), DType::u8, {20'000},
        std::span(reinterpret_cast<const std::uint8_t*>(bytes->data()), bytes->size()));
  }
  file.close();
  return {"data.h5", "lines.jsonl"};
}

void run_stages(const fs::path& folder) {
  Store store(folder);
  BeginOptions options;
  options.keep = {"lines.jsonl"};
  for (int seed = 0; seed < 6; ++seed) store.make(key_of(seed), options, laborious);
}

TEST(Store, KilledAHundredTimes) {
  const Scratch scratch;
  const auto began = std::chrono::steady_clock::now();
  run_stages(scratch / "whole");
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - began);
  const auto expected = tree(scratch / "whole");
  Rng rng(7);
  int kills = 0, rounds = 0, resumed = 0;
  while (kills < 100) {
    const fs::path folder = scratch / fmt::format("killed_{}", rounds++);
    for (;;) {
      const pid_t child = ::fork();
      if (child == 0) {
        run_stages(folder);
        ::_exit(0);
      }
      ::usleep(
          static_cast<useconds_t>(rng.below(static_cast<std::uint64_t>(whole.count()) / 6 + 1)));
      ::kill(child, SIGKILL);
      int status = 0;
      ::waitpid(child, &status, 0);
      if (WIFEXITED(status)) break;
      ++kills;
      // Whatever is there is whole.
      const Store store(folder);
      for (const VerifyLine& line : store.verify()) EXPECT_EQ(line.problem, "") << line.artifact;
      for (const Artifact& artifact : store.list("dump"))
        EXPECT_EQ(read_file(artifact.checked("data.h5")),
                  expected.at("dump/" + artifact.folder().filename().string() + "/data.h5"));
      resumed += kills < 100 ? 1 : 0;
      if (kills >= 100) break;
    }
    run_stages(folder);
    EXPECT_EQ(tree(folder), expected) << "round " << rounds;
    if (testing::Test::HasFailure()) return;
    fs::remove_all(folder);
  }
  std::printf("%d kills in %d rounds, %d resumed by a run that was killed too\n", kills, rounds,
              resumed);
}

// Several processes at once, some killed: each artifact is made once at a time and comes out the
// same.
TEST(Store, ManyProcessesOnOneStore) {
  const Scratch scratch;
  run_stages(scratch / "whole");
  const fs::path folder = scratch / "shared";
  Rng rng(11);
  std::vector<pid_t> children;
  for (int i = 0; i < 6; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        run_stages(folder);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        ::_exit(1);
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (int i = 0; i < 3; ++i) {
    ::usleep(static_cast<useconds_t>(rng.below(30'000)));
    ::kill(children[static_cast<std::size_t>(i)], SIGKILL);
  }
  for (std::size_t i = 0; i < children.size(); ++i) {
    int status = 0;
    ::waitpid(children[i], &status, 0);
    if (i < 3) continue;  // the killed ones
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << i;
  }
  EXPECT_EQ(tree(folder), tree(scratch / "whole"));
}

}  // namespace
}  // namespace vi::artifact
