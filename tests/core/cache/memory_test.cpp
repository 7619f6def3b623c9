// A coded cache must never hold the sequence in full precision: this program counts every byte that
// operator new gives while 24,000 tokens are appended and attended to.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "core/cache/coded_cache.h"
#include "tests/support/fake_coder.h"

namespace {

std::atomic<std::int64_t> live{0}, peak{0}, largest{0};

void* counted(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  const auto bytes = static_cast<std::int64_t>(malloc_usable_size(p));
  const std::int64_t now = live += bytes;
  for (std::int64_t seen = peak; now > seen && !peak.compare_exchange_weak(seen, now);) {
  }
  for (std::int64_t seen = largest; bytes > seen && !largest.compare_exchange_weak(seen, bytes);) {
  }
  return p;
}
void release(void* p) {
  if (p != nullptr) live -= static_cast<std::int64_t>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

void* operator new(std::size_t n) { return counted(std::malloc(n)); }
void* operator new[](std::size_t n) { return counted(std::malloc(n)); }
void* operator new(std::size_t n, std::align_val_t a) {
  const auto align = static_cast<std::size_t>(a);
  return counted(std::aligned_alloc(align, (n + align - 1) / align * align));
}
void* operator new[](std::size_t n, std::align_val_t a) { return operator new(n, a); }
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, std::size_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { release(p); }

namespace vi::cache {
namespace {

TEST(Memory, ACodedCacheStaysSmall) {
  constexpr int kDim = 64, kHeads = 2;
  constexpr std::int64_t kPrompt = 8000, kTokens = 24000;
  const testing::FakeVectorCoder coder(kDim, 4, 8, true, 1, testing::affine_transform(kDim, 2));
  for (const codec::Flush flush : {codec::Flush::block, codec::Flush::sliding}) {
    const auto q = testing::normals(4 * kHeads * kDim, 2);
    std::vector<float> out(q.size()), prompt = testing::normals(kHeads * kPrompt * kDim, 3);
    std::vector<float> token = testing::normals(kHeads * kDim, 4);
    const CacheCoders coders{std::vector<const quant::HeadCoder*>(kHeads, &coder),
                             std::vector<const quant::HeadCoder*>(kHeads, &coder)};
    {  // the buffers that each thread keeps
      CodedCache warm({1, 4 * kHeads, kHeads, kDim},
                      {.recent = 128, .sinks = 4, .key_flush = flush, .value_flush = flush},
                      coders);
      warm.append(0, prompt.data(), prompt.data(), kPrompt, kPrompt * kDim);
      warm.attend(0, q.data(), out.data());
    }
    const std::int64_t before = live;
    peak = before;
    largest = 0;
    CodedCache cache({1, 4 * kHeads, kHeads, kDim},
                     {.recent = 128, .sinks = 4, .key_flush = flush, .value_flush = flush}, coders);
    cache.append(0, prompt.data(), prompt.data(), kPrompt, kPrompt * kDim);
    cache.attend(0, q.data(), out.data());
    while (cache.len(0) < kTokens) {
      cache.append(0, token.data(), token.data(), 1, kDim);
      if (cache.len(0) % 1000 == 0) cache.attend(0, q.data(), out.data());
    }
    const std::int64_t coded =
        flush == codec::Flush::block ? (kTokens - 4) / 128 * 128 : kTokens - 4 - 128;
    const auto stream = static_cast<std::int64_t>(coder.stream_bytes(coded));
    EXPECT_EQ(cache.payload_bytes(), static_cast<std::size_t>(4 * stream));
    const std::int64_t dense_side = kTokens * kDim * 4, window = 4 * 132 * kDim * 4;
    // Capacity: a quarter to spare on the streams, twice on the windows, and small change.
    EXPECT_LE(cache.allocated_bytes(),
              static_cast<std::size_t>(4 * stream * 5 / 4 + 4 * window + 4096));
    EXPECT_LE(live - before, 4 * stream * 5 / 4 + 4 * window + 16384);
    // While one stream moves to a larger place, both are alive; each split leaves its partial
    // result.
    EXPECT_LE(peak - before, 4 * stream * 5 / 4 + stream + 4 * window + 300000);
    EXPECT_LT(largest, dense_side / 8) << "something as large as a part of the dense cache";
    for (const float x : out) EXPECT_TRUE(std::isfinite(x));
  }
}

}  // namespace
}  // namespace vi::cache
