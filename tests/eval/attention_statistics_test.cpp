// Attention statistics against plain loops in f64.
#include "eval/calibration/attention_statistics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace vi::eval {
namespace {

TEST(AttentionStatistics, ArePlainLoops) {
  at::manual_seed(1);
  const std::int64_t kv = 2, group = 3, d = 8, hidden = 20;
  const at::Tensor w_o = at::randn({hidden, kv * group * d});
  const at::Tensor metric = output_metric(w_o, kv, d);
  for (const std::int64_t n : {1, 7, 150}) {
    const at::Tensor q = at::randn({kv * group, n, d}) * 2, k = at::randn({kv, n, d}), v = at::randn({kv, n, d});
    for (const std::int64_t stride : {1, 4}) {
      const std::int64_t sinks = 2, recent = 3;
      const AttentionStatistics got = attention_statistics(q, k, v, metric, sinks, recent, stride);
      const auto qd = q.to(at::kDouble), kd = k.to(at::kDouble), vd = v.to(at::kDouble), wd = w_o.to(at::kDouble);
      for (std::int64_t h = 0; h < kv; ++h) {
        at::Tensor attention = at::zeros({n}, at::kDouble), sensitivity = attention.clone(),
                   plain = at::zeros({d, d}, at::kDouble), sensitive = plain.clone();
        for (std::int64_t g = 0; g < group; ++g)
          for (std::int64_t t = stride - 1; t < n; t += stride) {
            const at::Tensor row = qd[h * group + g][t];
            const at::Tensor p =
                at::softmax(at::mv(kd[h].narrow(0, 0, t + 1), row) / std::sqrt(static_cast<double>(d)), 0);
            const at::Tensor out = at::mv(vd[h].narrow(0, 0, t + 1).t(), p);
            double sum = 0;
            for (std::int64_t s = sinks; s <= t - recent; ++s) {
              const double p2 = std::pow(p[s].item<double>(), 2);
              double distance = 0;  // behind each W_h of the group
              for (std::int64_t o = 0; o < group; ++o)
                distance += at::mv(wd.narrow(1, (h * group + o) * d, d), vd[h][s] - out).square().sum().item<double>();
              attention[s] += p2;
              sensitivity[s] += p2 * distance;
              sum += p2 * distance;
            }
            plain += at::outer(row, row);
            sensitive += sum * at::outer(row, row);
          }
        const auto near = [](const at::Tensor& a, const at::Tensor& b) {
          return at::allclose(a.to(at::kDouble), b, 1e-3, 1e-4 * (1 + b.abs().max().item<double>()));
        };
        EXPECT_TRUE(near(got.attention[h], attention)) << n << " " << stride;
        EXPECT_TRUE(near(got.sensitivity[h], sensitivity)) << n << " " << stride;
        EXPECT_TRUE(near(got.query_moment[h], plain)) << n << " " << stride;
        EXPECT_TRUE(near(got.sensitive_moment[h], sensitive)) << n << " " << stride;
      }
    }
  }
}

}  // namespace
}  // namespace vi::eval
