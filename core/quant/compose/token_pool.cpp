#include "core/quant/compose/token_pool.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/quant/finite.h"

namespace vi::quant {
namespace {

// An entry of the pools: this, then head_dim halves. Entries are filled in order.
struct Entry {
  std::uint32_t state = 0;  // 0: empty
  std::uint32_t token = 0;
  float score = 0;
};
constexpr std::uint32_t kPool = 1, kAuxiliary = 2;
static_assert(sizeof(Entry) == 12);

}  // namespace

TokenPool::TokenPool(const PoolForm& form, std::unique_ptr<HeadCoder> inner)
    : form_(form), inner_(std::move(inner)) {
  VI_CHECK(form.tokens >= 0 && form.auxiliary >= 0 && form.group >= 1 && form.tokens < form.group,
           "a pool of {} + {} tokens in groups of {}", form.tokens, form.auxiliary, form.group);
  VI_CHECK(form.group % inner_->seal_tokens() == 0 && inner_->fixed_bytes() == 0 &&
               !inner_->sequential() && !inner_->wants_keys(),
           "groups of {} tokens around a coder of groups of {}", form.group, inner_->seal_tokens());
}

std::size_t TokenPool::capacity() const {
  return form_.tokens == 0 ? 0 : static_cast<std::size_t>(2 * form_.tokens - 1 + form_.auxiliary);
}

void TokenPool::trace(float* rows, const float* keys, std::size_t n, std::size_t first,
                      std::uint8_t* pools) const {
  const std::size_t d = head_dim();
  std::vector<Entry> entries(capacity());
  for (std::size_t i = 0; i < entries.size(); ++i)
    std::memcpy(&entries[i], pools + i * entry_bytes(), sizeof(Entry));
  std::size_t used = 0, auxiliary = 0;
  for (const Entry& e : entries) used += e.state != 0, auxiliary += e.state == kAuxiliary;
  if (form_.tokens == 0 || auxiliary >= static_cast<std::size_t>(form_.auxiliary)) return;

  struct Candidate {
    float score;
    std::uint32_t token;
    std::ptrdiff_t entry;  // -1: of the group
  };
  std::vector<Candidate> candidates;
  for (std::size_t i = 0; i < used; ++i)
    if (entries[i].state == kPool)
      candidates.push_back({entries[i].score, entries[i].token, static_cast<std::ptrdiff_t>(i)});
  for (std::size_t t = 0; t < n; ++t) {
    double sum = 0;
    for (std::size_t i = 0; i < d; ++i) sum += std::fabs(keys[t * d + i]);
    candidates.push_back({static_cast<float>(sum), static_cast<std::uint32_t>(first + t), -1});
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score < b.score : a.token < b.token;
  });
  std::vector<std::size_t> chosen;
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    const bool stays = c < static_cast<std::size_t>(form_.tokens);
    const Candidate& one = candidates[c];
    if (one.entry >= 0 && !stays) entries[one.entry].state = kAuxiliary;
    if (one.entry < 0 && stays) chosen.push_back(one.token - first);
    if (one.entry < 0 && stays) {
      VI_CHECK(used < entries.size(), "the pools are full");
      entries[used] = {kPool, one.token, one.score};
      std::uint8_t* halves = pools + used * entry_bytes() + sizeof(Entry);
      for (std::size_t i = 0; i < d; ++i) {
        const std::uint16_t bits =
            float_to_half(std::clamp(rows[chosen.back() * d + i], -65504.0f, 65504.0f));
        std::memcpy(halves + 2 * i, &bits, 2);
      }
      ++used;
    }
  }
  for (std::size_t i = 0; i < entries.size(); ++i)
    std::memcpy(pools + i * entry_bytes(), &entries[i], sizeof(Entry));
  if (chosen.empty()) return;
  std::vector<double> mean(d, 0.0);
  for (std::size_t t = 0; t < n; ++t)
    for (std::size_t i = 0; i < d; ++i) mean[i] += rows[t * d + i];
  for (const std::size_t t : chosen)
    for (std::size_t i = 0; i < d; ++i)
      rows[t * d + i] = static_cast<float>(mean[i] / static_cast<double>(n));
}

void TokenPool::restore(const std::uint8_t* pools, std::size_t first, std::size_t n,
                        float* rows) const {
  const std::size_t d = head_dim();
  for (std::size_t e = 0; e < capacity(); ++e) {
    Entry entry;
    std::memcpy(&entry, pools + e * entry_bytes(), sizeof entry);
    if (entry.state == 0) return;
    if (entry.token < first || entry.token >= first + n) continue;
    for (std::size_t i = 0; i < d; ++i) {
      std::uint16_t bits;
      std::memcpy(&bits, pools + e * entry_bytes() + sizeof(Entry) + 2 * i, 2);
      rows[(entry.token - first) * d + i] = half_to_float(bits);
    }
  }
}

void TokenPool::encode(const float* rows, std::size_t n, std::size_t first,
                       std::uint8_t* stream) const {
  VI_CHECK(form_.keys, "a pool of values was not given its keys");
  encode_with_keys(rows, rows, n, first, stream);
}

void TokenPool::encode_with_keys(const float* rows, const float* keys, std::size_t n,
                                 std::size_t first, std::uint8_t* stream) const {
  const std::size_t d = head_dim(), group = form_.group;
  VI_CHECK(first % group == 0 && n % group == 0, "tokens [{}, {}) are not whole groups of {}", first,
           first + n, group);
  detail::check_finite(rows, n, head_dim());
  std::vector<float> work;
  for (std::size_t at = 0; at < n; at += group) {
    work.assign(rows + at * d, rows + (at + group) * d);
    trace(work.data(), keys + at * d, group, first + at, stream);
    inner_->encode(work.data(), group, first + at, stream + fixed_bytes());
  }
}

void TokenPool::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                       float* rows) const {
  if (n == 0) return;
  inner_->decode(stream + fixed_bytes(), first, n, rows);
  restore(stream, first, n, rows);
}

void TokenPool::reconstruct(const float* rows, std::size_t n, float* out) const {
  VI_CHECK(form_.keys, "a pool of values was not given its keys");
  reconstruct_at(rows, n, {0, rows}, out);
}

void TokenPool::reconstruct_at(const float* rows, std::size_t n, const Place& place,
                               float* out) const {
  const std::size_t d = head_dim(), group = form_.group;
  const float* given = form_.keys ? rows : place.keys;
  VI_CHECK(given != nullptr, "a pool of values was not given its keys");
  detail::check_finite(rows, n, head_dim());
  const std::vector<float> keys(given, given + n * d);  // out may be rows
  std::vector<std::uint8_t> pools(fixed_bytes(), 0);
  if (out != rows) std::copy_n(rows, n * d, out);
  for (std::size_t at = 0; at < n; at += group) {
    const std::size_t count = std::min(group, n - at);
    trace(out + at * d, keys.data() + at * d, count, at, pools.data());
    inner_->reconstruct(out + at * d, count, out + at * d);
  }
  restore(pools.data(), 0, n, out);
}

}  // namespace vi::quant
