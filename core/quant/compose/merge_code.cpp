#include "core/quant/compose/merge_code.h"

#include <algorithm>
#include <cmath>

#include "core/quant/finite.h"

namespace vi::quant {
namespace {

struct Cluster {
  std::vector<int> members;
  std::vector<double> sum;  // of the members' keys
};

double cosine(const Cluster& a, const Cluster& b) {
  double dot = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.sum.size(); ++i) {
    dot += a.sum[i] * b.sum[i];
    aa += a.sum[i] * a.sum[i];
    bb += b.sum[i] * b.sum[i];
  }
  return aa > 0 && bb > 0 ? dot / std::sqrt(aa * bb) : 0.0;  // a key of zeros is like no other
}

void absorb(Cluster& into, Cluster& from) {
  into.members.insert(into.members.end(), from.members.begin(), from.members.end());
  for (std::size_t i = 0; i < into.sum.size(); ++i) into.sum[i] += from.sum[i];
  from.members.clear();
}

}  // namespace

std::vector<int> merge_tokens(const float* keys, std::size_t n, int head_dim, int keep) {
  std::vector<Cluster> clusters(n);
  for (std::size_t t = 0; t < n; ++t)
    clusters[t] = {{static_cast<int>(t)}, {keys + t * head_dim, keys + (t + 1) * head_dim}};
  while (clusters.size() > static_cast<std::size_t>(keep)) {
    struct Link {
      double similarity;
      std::size_t a, b;
    };
    std::vector<Link> links;
    for (std::size_t a = 0; a < clusters.size(); a += 2) {
      Link best{-2, a, 0};
      for (std::size_t b = 1; b < clusters.size(); b += 2)
        if (const double s = cosine(clusters[a], clusters[b]); s > best.similarity) best = {s, a, b};
      links.push_back(best);
    }
    std::stable_sort(links.begin(), links.end(),
                     [](const Link& x, const Link& y) { return x.similarity > y.similarity; });
    links.resize(std::min(links.size(), clusters.size() - static_cast<std::size_t>(keep)));
    for (const Link& link : links) absorb(clusters[link.b], clusters[link.a]);
    std::erase_if(clusters, [](const Cluster& c) { return c.members.empty(); });
  }
  for (Cluster& c : clusters) std::sort(c.members.begin(), c.members.end());
  std::sort(clusters.begin(), clusters.end(),
            [](const Cluster& a, const Cluster& b) { return a.members[0] < b.members[0]; });
  std::vector<int> cluster(n);
  for (std::size_t c = 0; c < clusters.size(); ++c)
    for (const int t : clusters[c].members) cluster[t] = static_cast<int>(c);
  return cluster;
}

MergeCode::MergeCode(int head_dim, const MergeForm& form)
    : BlockCoder(head_dim, {}, static_cast<std::size_t>(form.chunk)), form_(form) {
  VI_CHECK(form.chunk >= 2 && form.keep >= 1 && form.keep <= form.chunk && form.keep <= 256,
           "{} clusters of chunks of {} tokens", form.keep, form.chunk);
  block_ = form.chunk;
  set_block_bytes(2 * static_cast<std::size_t>(form.keep) * head_dim_ + index_bytes());
}

int MergeCode::index_bits() const {
  int bits = 0;
  while ((1 << bits) < form_.keep) ++bits;
  return bits;
}

std::vector<std::uint16_t> MergeCode::centroids(const float* rows, std::size_t n,
                                                const std::vector<int>& cluster) const {
  const std::size_t d = head_dim_;
  const int count = 1 + *std::max_element(cluster.begin(), cluster.end());
  std::vector<double> sum(count * d, 0.0), size(count, 0.0);
  for (std::size_t t = 0; t < n; ++t) {
    size[cluster[t]] += 1;
    for (std::size_t i = 0; i < d; ++i) sum[cluster[t] * d + i] += rows[t * d + i];
  }
  std::vector<std::uint16_t> halves(count * d);
  for (std::size_t i = 0; i < halves.size(); ++i)
    halves[i] = float_to_half(static_cast<float>(std::clamp(sum[i] / size[i / d], -65504.0, 65504.0)));
  return halves;
}

void MergeCode::encode(const float* rows, std::size_t n, std::size_t first,
                       std::uint8_t* stream) const {
  VI_CHECK(form_.keys, "merging of values was not given their keys");
  encode_with_keys(rows, rows, n, first, stream);
}

void MergeCode::encode_with_keys(const float* rows, const float* keys, std::size_t n,
                                 std::size_t first, std::uint8_t* stream) const {
  check_whole(first, n);
  detail::check_finite(rows, n, head_dim_);
  const int bits = index_bits();
  over_blocks(first, n, [&](std::size_t block, std::size_t, std::size_t count, std::size_t at) {
    const auto cluster = merge_tokens(keys + at * head_dim_, count, head_dim_, form_.keep);
    const auto halves = centroids(rows + at * head_dim_, count, cluster);
    std::uint8_t* base = stream + block * block_bytes_;
    for (std::size_t i = 0; i < halves.size(); ++i) put_half(base + 2 * i, halves[i]);
    std::uint8_t* index = base + 2 * static_cast<std::size_t>(form_.keep) * head_dim_;
    if (bits > 0)
      for (std::size_t t = 0; t < count; ++t)
        detail::write_bits(index + t * bits / 8, static_cast<int>(t * bits % 8), bits,
                           static_cast<unsigned>(cluster[t]));
  });
}

void MergeCode::decode(const std::uint8_t* stream, std::size_t first, std::size_t n,
                       float* rows) const {
  const int bits = index_bits();
  over_blocks(first, n, [&](std::size_t block, std::size_t inside, std::size_t count, std::size_t at) {
    const std::uint8_t* base = stream + block * block_bytes_;
    const std::uint8_t* index = base + 2 * static_cast<std::size_t>(form_.keep) * head_dim_;
    for (std::size_t t = inside; t < inside + count; ++t) {
      const unsigned c =
          bits == 0 ? 0 : detail::read_bits(index + t * bits / 8, static_cast<int>(t * bits % 8), bits);
      for (int i = 0; i < head_dim_; ++i)
        rows[(at + t - inside) * head_dim_ + i] =
            half_to_float(get_half(base + 2 * (static_cast<std::size_t>(c) * head_dim_ + i)));
    }
  });
}

void MergeCode::reconstruct(const float* rows, std::size_t n, float* out) const {
  VI_CHECK(form_.keys, "merging of values was not given their keys");
  reconstruct_at(rows, n, {0, rows}, out);
}

// A short chunk keeps clusters in proportion, at least one.
void MergeCode::reconstruct_at(const float* rows, std::size_t n, const Place& place,
                               float* out) const {
  const float* given = form_.keys ? rows : place.keys;
  VI_CHECK(given != nullptr, "merging of values was not given their keys");
  detail::check_finite(rows, n, head_dim_);
  const std::size_t d = head_dim_;
  std::vector<int> cluster;
  over_blocks(0, n, [&](std::size_t, std::size_t, std::size_t count, std::size_t at) {
    const int keep = static_cast<int>((count * form_.keep + form_.chunk - 1) / form_.chunk);
    cluster = merge_tokens(given + at * d, count, head_dim_, keep);
    const auto halves = centroids(rows + at * d, count, cluster);
    for (std::size_t t = 0; t < count; ++t)
      for (std::size_t i = 0; i < d; ++i)
        out[(at + t) * d + i] = half_to_float(halves[cluster[t] * d + i]);
  });
}

}  // namespace vi::quant
