"""Writes fixtures/kv_tensor.f16: keys, then values, [2, 320, 128] little-endian halves. Keys turn with RoPE, a
few channels stand out, a few tokens are quiet; every number follows from the seed."""
import math
import pathlib
import random
import struct

n, d = 320, 128
rng = random.Random(20261123)
scale = [1.0] * d
scale[3], scale[40], scale[77] = 9.0, 6.0, 12.0
shift = [0.0] * d
shift[10], shift[99] = 4.0, -3.0
keys, values = [], []
for t in range(n):
    loud = (0.3 + rng.random()) * (0.05 if t % 61 == 5 else 1.0)
    x = [loud * (rng.gauss(0, 1) * scale[i] + shift[i]) for i in range(d)]
    for i in range(d // 2):
        a = t * 10000.0 ** (-2.0 * i / d)
        low, high = x[i], x[i + d // 2]
        x[i] = low * math.cos(a) - high * math.sin(a)
        x[i + d // 2] = high * math.cos(a) + low * math.sin(a)
    keys += x
    values += [0.5 * rng.gauss(0, 1) / max(0.3, rng.random()) for _ in range(d)]
out = pathlib.Path(__file__).parent / "fixtures" / "kv_tensor.f16"
out.write_bytes(struct.pack(f"<{2 * n * d}e", *keys, *values))
