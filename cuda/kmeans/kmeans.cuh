// kmeans: one Lloyd iteration of many problems at once.
// Computes   codes = argmin |x - c|^2; sums and counts of each cluster; then means, empty clusters
//            filled by FAISS's rule (VecInfer sec. 4.1)
// Oracle     oracle.h: oracle_kmeans      Test tests/cuda/kmeans_test.cpp
// Essay      docs/kernels/kmeans.md
// Launch     assign: grid (runs of 8192 points, problems), 256 threads of 8 (dsub 8: 4) points;
//            update: one CTA a problem
// Roofline   compute: dsub FMA and 1.5 for the minimum a distance; centroids broadcast from shared
//            memory, in pieces where they do not fit
// Numerics   distance |c|^2 / 2 - x.c about the mean of the first centroids, f32; sums are integers
//            (x - mean in units of 2^-17 of the largest), so their order cannot matter
#pragma once

#include <cstdint>

namespace vi::cuda::kmeans {

constexpr int kThreads = 256, kRun = 8192;  // points a CTA sums before it hands on
constexpr int kSharedSums = 1024;           // clusters whose sums fit beside the centroids
constexpr float kUnits = 131072.f;          // 2^17: 8192 of them sum to 2^30

template <int kDsub>
__host__ __device__ constexpr int points_of() {
  return kDsub == 8 ? 4 : 8;
}
template <int kDsub>
__host__ __device__ constexpr int piece_of() {
  return kDsub == 8 ? 1024 : 2048;
}  // centroids in shared memory at a time

struct Args {
  const float* points;  // [problems, n, dsub]
  int n, ksub;
  float* centroids;  // [problems, ksub, dsub], less the problem's shift
  float* shift;      // [problems, dsub]
  float* largest;    // [problems] largest |x - shift|, at least the smallest normal
  long long* sums;   // [problems, ksub, dsub], zero between iterations
  unsigned* counts;  // [problems, ksub], likewise
  double* parts;     // [problems, runs] inertia, or null
};

// What the trainer starts from: the shift (mean of the initial points), the largest value, the
// initial centroids. One CTA a problem; sums in fixed order.
template <int kDsub>
__global__ void begin(Args a, const int* initial) {
  __shared__ float reduce[kThreads][kDsub];
  const int tid = threadIdx.x;
  const std::int64_t problem = blockIdx.x;
  const float* points = a.points + problem * a.n * kDsub;
  float sum[kDsub] = {};
  for (int c = tid; c < a.ksub; c += kThreads)
    for (int d = 0; d < kDsub; ++d)
      sum[d] += points[static_cast<std::int64_t>(initial[problem * a.ksub + c]) * kDsub + d];
  for (int d = 0; d < kDsub; ++d) reduce[tid][d] = sum[d];
  for (int step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (tid < step)
      for (int d = 0; d < kDsub; ++d) reduce[tid][d] += reduce[tid + step][d];
  }
  __syncthreads();
  float shift[kDsub];
  for (int d = 0; d < kDsub; ++d) shift[d] = reduce[0][d] / a.ksub;
  __syncthreads();
  float most = 1.17549435e-38f;
  for (int i = tid; i < a.n; i += kThreads)
    for (int d = 0; d < kDsub; ++d)
      most = fmaxf(most, fabsf(points[static_cast<std::int64_t>(i) * kDsub + d] - shift[d]));
  reduce[tid][0] = most;
  for (int step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (tid < step) reduce[tid][0] = fmaxf(reduce[tid][0], reduce[tid + step][0]);
  }
  for (int c = tid; c < a.ksub; c += kThreads)
    for (int d = 0; d < kDsub; ++d) {
      const std::int64_t at = (problem * a.ksub + c) * kDsub + d;
      a.centroids[at] =
          points[static_cast<std::int64_t>(initial[problem * a.ksub + c]) * kDsub + d] - shift[d];
      a.sums[at] = 0;
      if (d == 0) a.counts[problem * a.ksub + c] = 0;
    }
  __syncthreads();
  if (tid == 0) a.largest[problem] = reduce[0][0];
  if (tid < kDsub) a.shift[problem * kDsub + tid] = shift[tid];
}

template <int kDsub>
std::size_t assign_bytes(int ksub) {
  const int piece = ksub < piece_of<kDsub>() ? (ksub + 3) / 4 * 4 : piece_of<kDsub>();
  return sizeof(float) * piece * (kDsub + 1) +
         (ksub <= kSharedSums ? sizeof(int) * ksub * (kDsub + 1) : 0);
}

// Nearest centroids and, unless `last`, their sums; counts and inertia at the end.
template <int kDsub>
__global__ void __launch_bounds__(kThreads) assign(Args a, bool last) {
  constexpr int kPoints = points_of<kDsub>();
  extern __shared__ __align__(16) float shared[];
  __shared__ double reduce[kThreads];
  const int tid = threadIdx.x, ksub = a.ksub;
  const std::int64_t problem = blockIdx.y;
  const int piece = min((ksub + 3) / 4 * 4, piece_of<kDsub>());
  float* book = shared;                              // [piece][dsub], negated
  float* norm = shared + piece * kDsub;              // [piece]
  int* sums = reinterpret_cast<int*>(norm + piece);  // [ksub][dsub + 1]
  const bool local = ksub <= kSharedSums;
  if (local)
    for (int i = tid; i < ksub * (kDsub + 1); i += kThreads) sums[i] = 0;
  const float* points = a.points + problem * a.n * kDsub;
  const float* centroids = a.centroids + problem * ksub * kDsub;
  float shift[kDsub];
#pragma unroll
  for (int d = 0; d < kDsub; ++d) shift[d] = a.shift[problem * kDsub + d];
  const float units = kUnits / a.largest[problem];
  double error = 0;
  const auto load = [&](int first) {  // a piece of the centroids
    for (int c = tid; c < piece; c += kThreads) {
      float half_norm = 0;
#pragma unroll
      for (int d = 0; d < kDsub; ++d) {
        const float v =
            first + c < ksub ? centroids[static_cast<std::int64_t>(first + c) * kDsub + d] : 0.f;
        book[c * kDsub + d] = -v;
        half_norm = __fmaf_rn(v, v, half_norm);
      }
      norm[c] = first + c < ksub ? 0.5f * half_norm : INFINITY;
    }
  };
  if (ksub <= piece) load(0);
  __syncthreads();

  const int end = min(a.n, (static_cast<int>(blockIdx.x) + 1) * kRun);
  for (int base = blockIdx.x * kRun; base < end; base += kThreads * kPoints) {
    float x[kPoints][kDsub], best[kPoints];
    int group[kPoints];
#pragma unroll
    for (int k = 0; k < kPoints; ++k) {
      const std::int64_t i = min(base + k * kThreads + tid, end - 1);
      best[k] = INFINITY;
      group[k] = 0;
#pragma unroll
      for (int d = 0; d < kDsub; ++d) x[k][d] = points[i * kDsub + d] - shift[d];
    }
    int code[kPoints] = {};
    for (int first = 0; first < ksub; first += piece) {
      if (ksub > piece) {
        __syncthreads();
        load(first);
        __syncthreads();
      }
      const int count = min(piece, (ksub - first + 3) / 4 * 4);
      const auto distance = [&](int k, int c, float half_norm) {
        float v = half_norm;
#pragma unroll
        for (int d = 0; d < kDsub; ++d) v = __fmaf_rn(x[k][d], book[c * kDsub + d], v);
        return v;
      };
      bool found[kPoints] = {};
#pragma unroll 1
      for (int c = 0; c < count; c += 4) {
        float cs[4][kDsub];
#pragma unroll
        for (int e = 0; e < 4; ++e)
#pragma unroll
          for (int d = 0; d < kDsub; ++d) cs[e][d] = book[(c + e) * kDsub + d];
        const float4 n = *reinterpret_cast<const float4*>(norm + c);
#pragma unroll
        for (int k = 0; k < kPoints; ++k) {
          float v[4] = {n.x, n.y, n.z, n.w};
#pragma unroll
          for (int e = 0; e < 4; ++e)
#pragma unroll
            for (int d = 0; d < kDsub; ++d) v[e] = __fmaf_rn(x[k][d], cs[e][d], v[e]);
          const float lowest = fminf(fminf(v[0], v[1]), fminf(v[2], v[3]));
          if (lowest < best[k]) {
            best[k] = lowest;
            group[k] = c;
            found[k] = true;
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kPoints; ++k) {  // which of the four: the same arithmetic again
        if (!found[k]) continue;
        int e = 3;
#pragma unroll
        for (int j = 2; j >= 0; --j)
          if (distance(k, group[k] + j, norm[group[k] + j]) == best[k]) e = j;
        code[k] = first + group[k] + e;
      }
    }
#pragma unroll
    for (int k = 0; k < kPoints; ++k) {
      if (base + k * kThreads + tid >= end) continue;
      if (last) {
        float d2 = 0;
#pragma unroll
        for (int d = 0; d < kDsub; ++d) {
          const float e = centroids[static_cast<std::int64_t>(code[k]) * kDsub + d] - x[k][d];
          d2 = __fmaf_rn(e, e, d2);
        }
        error += d2;
      }
      if (local) {
        int* to = sums + code[k] * (kDsub + 1);
        atomicAdd(to + kDsub, 1);
        if (!last)
#pragma unroll
          for (int d = 0; d < kDsub; ++d) atomicAdd(to + d, __float2int_rn(x[k][d] * units));
      } else {
        const std::int64_t at = problem * ksub + code[k];
        atomicAdd(a.counts + at, 1u);
        if (!last)
#pragma unroll
          for (int d = 0; d < kDsub; ++d)
            atomicAdd(reinterpret_cast<unsigned long long*>(a.sums) + at * kDsub + d,
                      static_cast<unsigned long long>(
                          static_cast<long long>(__float2int_rn(x[k][d] * units))));
      }
    }
  }
  if (local) {
    __syncthreads();
    for (int i = tid; i < ksub * (kDsub + 1); i += kThreads) {
      const int v = sums[i], c = i / (kDsub + 1), d = i % (kDsub + 1);
      if (v == 0) continue;
      if (d == kDsub)
        atomicAdd(a.counts + problem * ksub + c, static_cast<unsigned>(v));
      else
        atomicAdd(reinterpret_cast<unsigned long long*>(a.sums) + (problem * ksub + c) * kDsub + d,
                  static_cast<unsigned long long>(static_cast<long long>(v)));
    }
  }
  if (last && a.parts) {
    reduce[tid] = error;
    for (int step = kThreads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (tid < step) reduce[tid] += reduce[tid + step];
    }
    if (tid == 0) a.parts[problem * gridDim.x + blockIdx.x] = reduce[0];
  }
}

// Means; then empty clusters take half of one that FAISS's draws choose (faiss/Clustering.cpp,
// split_clusters: probability by size, centroids apart by 1/1024 both ways).
template <int kDsub>
__global__ void __launch_bounds__(kThreads)
    update(Args a, const float* draws, int n_draws, float* scratch_counts) {
  constexpr float kApart = 1.f / 1024;
  __shared__ int empty;
  const int tid = threadIdx.x, ksub = a.ksub;
  const std::int64_t problem = blockIdx.x;
  float* centroids = a.centroids + problem * ksub * kDsub;
  float* size = scratch_counts + problem * ksub;
  const double unit = static_cast<double>(a.largest[problem]) / kUnits;
  if (tid == 0) empty = 0;
  __syncthreads();
  for (int c = tid; c < ksub; c += kThreads) {
    const std::int64_t at = problem * ksub + c;
    const unsigned count = a.counts[at];
    size[c] = static_cast<float>(count);
    if (count == 0) atomicAdd(&empty, 1);
#pragma unroll
    for (int d = 0; d < kDsub; ++d) {
      if (count > 0)
        centroids[c * kDsub + d] =
            static_cast<float>(static_cast<double>(a.sums[at * kDsub + d]) * unit / count);
      a.sums[at * kDsub + d] = 0;
    }
    a.counts[at] = 0;
  }
  __syncthreads();
  if (tid != 0 || empty == 0 || a.n <= ksub) return;
  const float* shift = a.shift + problem * kDsub;
  int draw = 0;
  for (int c = 0; c < ksub; ++c) {
    if (size[c] != 0) continue;
    int from = 0;
    // Every number of the sequence tried once at most: sizes cannot all be 1 while one is 0.
    for (;; from = from + 1 == ksub ? 0 : from + 1) {
      const float p = (size[from] - 1.f) / static_cast<float>(a.n - ksub);
      if (draws[draw++ % n_draws] < p) break;
    }
#pragma unroll
    for (int d = 0; d < kDsub; ++d) {
      const float v = centroids[from * kDsub + d] + shift[d];
      const float up = v * (1 + kApart) - shift[d], down = v * (1 - kApart) - shift[d];
      centroids[c * kDsub + d] = d % 2 == 0 ? up : down;
      centroids[from * kDsub + d] = d % 2 == 0 ? down : up;
    }
    size[c] = size[from] / 2;
    size[from] -= size[c];
  }
}

// Back from the shift; usage and inertia out.
template <int kDsub>
__global__ void finish(Args a, float* out, int* usage, double* inertia, int n_runs) {
  const std::int64_t problem = blockIdx.x;
  for (int i = threadIdx.x; i < a.ksub * kDsub; i += kThreads)
    out[problem * a.ksub * kDsub + i] =
        a.centroids[problem * a.ksub * kDsub + i] + a.shift[problem * kDsub + i % kDsub];
  if (usage)
    for (int c = threadIdx.x; c < a.ksub; c += kThreads)
      usage[problem * a.ksub + c] = static_cast<int>(a.counts[problem * a.ksub + c]);
  if (inertia && threadIdx.x == 0) {
    double sum = 0;
    for (int r = 0; r < n_runs; ++r) sum += a.parts[problem * n_runs + r];
    inertia[problem] = sum;
  }
}

// quant::assign's arithmetic: d = fma(c - x, c - x, d) over the dims in order, the lowest index of
// equal distances; a point that is not finite gets code 0 and distance infinity.
__global__ void __launch_bounds__(kThreads)
    nearest(const float* points, std::int64_t n, const float* centroids, int ksub, int dsub,
            std::uint16_t* codes, float* distances) {
  constexpr int kMaxDsub = 16, kPiece = 512;
  __shared__ float book[kPiece * kMaxDsub];
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  float x[kMaxDsub];
#pragma unroll
  for (int d = 0; d < kMaxDsub; ++d) x[d] = d < dsub && i < n ? points[i * dsub + d] : 0.f;
  float best = INFINITY;
  int code = 0;
  for (int first = 0; first < ksub; first += kPiece) {
    const int count = min(kPiece, ksub - first);
    __syncthreads();
    for (int k = threadIdx.x; k < count * dsub; k += kThreads)
      book[k] = centroids[static_cast<std::int64_t>(first) * dsub + k];
    __syncthreads();
    for (int c = 0; c < count; ++c) {
      float v = 0;
#pragma unroll
      for (int d = 0; d < kMaxDsub; ++d)
        if (d < dsub) {
          const float e = __fsub_rn(book[c * dsub + d], x[d]);
          v = __fmaf_rn(e, e, v);
        }
      if (v < best) {
        best = v;
        code = first + c;
      }
    }
  }
  if (i >= n) return;
  codes[i] = static_cast<std::uint16_t>(code);
  if (distances) distances[i] = best;
}

}  // namespace vi::cuda::kmeans
