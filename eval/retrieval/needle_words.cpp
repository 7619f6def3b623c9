// Words for keys and lists, and the small random tools of the generators.
#include <algorithm>
#include <iterator>

#include "core/common/error.h"
#include "eval/retrieval/needle_parts.h"

namespace vi::eval::detail {
namespace {

constexpr std::string_view kAdjectives[] = {
    "able",   "aged",   "airy",    "amber",  "ample",  "arid",    "azure",  "bold",   "brave",
    "brief",  "bright", "brisk",   "broad",  "calm",   "careful", "cheap",  "clean",  "clear",
    "clever", "cold",   "cool",    "coral",  "cosy",   "crisp",   "cruel",  "curly",  "damp",
    "dark",   "dear",   "deep",    "dense",  "dim",    "dry",     "dull",   "dusty",  "eager",
    "early",  "easy",   "empty",   "equal",  "faint",  "fair",    "famous", "fancy",  "fast",
    "fierce", "firm",   "flat",    "fond",   "frail",  "free",    "fresh",  "full",   "gentle",
    "giant",  "glad",   "golden",  "good",   "grand",  "grave",   "great",  "green",  "grim",
    "happy",  "harsh",  "hasty",   "heavy",  "hollow", "honest",  "huge",   "humble", "icy",
    "ideal",  "idle",   "ivory",   "jolly",  "keen",   "kind",    "large",  "late",   "lazy",
    "light",  "little", "lively",  "lone",   "long",   "loud",    "loyal",  "lucky",  "mellow",
    "merry",  "mild",   "misty",   "modest", "narrow", "neat",    "new",    "nimble", "noble",
    "odd",    "old",    "open",    "pale",   "plain",  "polite",  "proud",  "quick",  "quiet",
    "rapid",  "rare",   "ready",   "rich",   "rough",  "round",   "royal",  "rusty",  "sad",
    "safe",   "scarce", "shallow", "sharp",  "shiny",  "short",   "shy",    "silent", "silver",
    "simple", "slim",   "slow",    "small",  "smart",  "smooth",  "soft",   "solid",  "sour",
    "spare",  "steady", "steep",   "stern",  "stiff",  "strict",  "strong", "sturdy", "subtle",
    "sweet",  "swift",  "tall",    "tame",   "tender", "thick",   "thin",   "tidy",   "tiny",
    "tough",  "true",   "vague",   "vast",   "vivid",  "warm",    "weak",   "weary",  "wet",
    "wide",   "wild",   "wise",    "young"};

constexpr std::string_view kNouns[] = {
    "acorn",    "anchor",  "apple",   "apron",   "arrow",    "attic",   "badge",   "bakery",
    "barrel",   "basket",  "beacon",  "beetle",  "bell",     "bench",   "bottle",  "branch",
    "bridge",   "broom",   "bucket",  "button",  "cabin",    "cactus",  "camel",   "candle",
    "canoe",    "canyon",  "carpet",  "castle",  "cedar",    "cellar",  "chair",   "chapel",
    "cherry",   "chimney", "circle",  "clock",   "cloud",    "clover",  "coast",   "comet",
    "compass",  "copper",  "cottage", "crane",   "crater",   "cricket", "crown",   "cupboard",
    "curtain",  "desert",  "diamond", "doctor",  "dolphin",  "donkey",  "dragon",  "drawer",
    "eagle",    "elbow",   "ember",   "engine",  "falcon",   "farmer",  "feather", "fence",
    "ferry",    "fiddle",  "field",   "flame",   "flute",    "forest",  "fossil",  "fountain",
    "garden",   "garlic",  "glacier", "glove",   "goose",    "grape",   "guitar",  "hammer",
    "harbor",   "harvest", "hazel",   "helmet",  "heron",    "hill",    "honey",   "horse",
    "island",   "jacket",  "jasmine", "jewel",   "journal",  "kettle",  "kitchen", "ladder",
    "lagoon",   "lantern", "lemon",   "leopard", "letter",   "library", "lizard",  "magnet",
    "mango",    "maple",   "marble",  "market",  "meadow",   "melon",   "mirror",  "monkey",
    "mountain", "museum",  "needle",  "nest",    "notebook", "oasis",   "ocean",   "olive",
    "orchard",  "otter",   "oven",    "oyster",  "paddle",   "palace",  "panda",   "paper",
    "parrot",   "pebble",  "pencil",  "pepper",  "piano",    "picture", "pigeon",  "pillow",
    "pirate",   "planet",  "plaza",   "pocket",  "pond",     "potato",  "prairie", "puzzle",
    "quarry",   "rabbit",  "radish",  "raven",   "ribbon",   "river",   "rocket",  "saddle",
    "sailor",   "salmon",  "school",  "shadow",  "shelf",    "shovel",  "sparrow", "spider",
    "spoon",    "stable",  "statue",  "stone",   "summit",   "teapot",  "temple",  "thunder",
    "ticket",   "tiger",   "tower",   "train",   "tunnel",   "turtle",  "valley",  "velvet",
    "violin",   "wagon",   "walnut",  "whale",   "whistle",  "willow",  "window",  "winter",
    "wizard",   "yard",    "zebra"};

std::string compound(std::size_t i) {
  return std::string(kAdjectives[i / std::size(kNouns)]) + "-" +
         std::string(kNouns[i % std::size(kNouns)]);
}
constexpr std::size_t kCompounds = std::size(kAdjectives) * std::size(kNouns);

}  // namespace

std::string random_value(NeedleValue kind, Rng& rng) {
  switch (kind) {
    case NeedleValue::number:
      return std::to_string(1'000'000 + rng.below(9'000'000));
    case NeedleValue::word:
      return compound(rng.below(kCompounds));
    case NeedleValue::uuid:
      break;
  }
  const std::uint64_t high = (rng.next() & ~0xf000ull) | 0x4000ull;  // version 4
  const std::uint64_t low = (rng.next() & ~(3ull << 62)) | (2ull << 62);
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                     high & 0xffff, low >> 48, low & 0xffff'ffff'ffffull);
}

std::vector<std::string> random_values(NeedleValue kind, std::size_t n, Rng& rng,
                                       std::vector<std::string>& taken) {
  std::vector<std::string> values;
  while (values.size() < n) {
    std::string value = random_value(kind, rng);
    const auto place = std::lower_bound(taken.begin(), taken.end(), value);
    if (place != taken.end() && *place == value) {
      VI_CHECK(kind != NeedleValue::word || taken.size() < kCompounds / 2,
               "{} different keys are too many", n);
      continue;
    }
    taken.insert(place, value);
    values.push_back(std::move(value));
  }
  return values;
}

std::size_t most_words() { return kCompounds; }

std::vector<std::string> random_words(std::size_t n, Rng& rng) {
  VI_CHECK(n <= kCompounds, "{} different words are asked for, there are {}", n, kCompounds);
  std::vector<std::string> words(std::begin(kAdjectives), std::end(kAdjectives));
  words.insert(words.end(), std::begin(kNouns), std::end(kNouns));
  if (n > words.size()) {  // compounds for the rest only, so that one more word is a few tokens more
    std::vector<std::string> compounds;
    for (std::size_t i = 0; i < kCompounds; ++i) compounds.push_back(compound(i));
    shuffle(compounds, rng);
    compounds.resize(std::min(n - words.size(), compounds.size()));
    words.insert(words.end(), compounds.begin(), compounds.end());
  }
  shuffle(words, rng);
  words.resize(n);
  return words;
}

std::vector<std::size_t> sample(std::size_t n, std::size_t bound, Rng& rng) {
  VI_CHECK(n <= bound, "{} different places among {}", n, bound);
  std::vector<std::size_t> chosen;
  while (chosen.size() < n) {
    const std::size_t value = rng.below(bound);
    const auto place = std::lower_bound(chosen.begin(), chosen.end(), value);
    if (place == chosen.end() || *place != value) chosen.insert(place, value);
  }
  return chosen;
}

std::size_t largest_fit(std::size_t least, std::size_t most, std::int64_t limit,
                        const std::function<std::int64_t(std::size_t)>& tokens_of) {
  const std::int64_t smallest = tokens_of(least);
  if (smallest > limit)
    fail("the shortest prompt has {} tokens, more than the {} asked for", smallest, limit);
  // Gallop up in steps that follow the tokens a unit takes, then halve the gap.
  std::size_t good = least, bad = most + 1;
  std::int64_t good_tokens = smallest;
  while (good + 1 < bad) {
    std::size_t next = good + (bad - good) / 2;
    if (bad == most + 1) {  // no upper bound seen yet
      const double each = good == least ? 1.0
                                        : static_cast<double>(good_tokens - smallest) /
                                              static_cast<double>(good - least);
      const double step = static_cast<double>(limit - good_tokens) / std::max(each, 0.25) + 1.0;
      next = good == least ? std::min(least + 16, most)
                           : std::min(most, good + static_cast<std::size_t>(step));
      if (next <= good) next = good + 1;
    }
    const std::int64_t tokens = tokens_of(next);
    if (tokens <= limit)
      good = next, good_tokens = tokens;
    else
      bad = next;
  }
  return good;
}

std::vector<std::string_view> words_of(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\f\v";
  std::vector<std::string_view> words;
  for (std::size_t i = text.find_first_not_of(kBlank); i != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kBlank, i), text.size());
    words.push_back(text.substr(i, end - i));
    i = text.find_first_not_of(kBlank, end);
  }
  return words;
}

std::string first_words(const std::vector<std::string_view>& words, std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) {
    if (i > 0) text += ' ';
    text += words[i % words.size()];
  }
  return text;
}

std::vector<std::string> sentences_of(std::string_view text) {
  std::vector<std::string> sentences;
  std::size_t begin = 0;
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    std::size_t end = i + 1;
    if (text[i] != '.' && text[i] != '!' && text[i] != '?') continue;
    while (end < text.size() && (text[end] == '"' || text[end] == '\'' || text[end] == ')')) ++end;
    if (end >= text.size() || text[end] != ' ') continue;
    sentences.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  if (begin < text.size()) sentences.emplace_back(text.substr(begin));
  return sentences;
}

std::string enumerate(const std::vector<std::string>& items) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += i + 1 == items.size() ? ", and " : ", ";
    text += items[i];
  }
  return text;
}

}  // namespace vi::eval::detail
