#!/usr/bin/env python3
"""The published KV-cache codecs once more in numpy, written from their descriptions alone, against `vecinfer reconstruct`.

    python3 tests/reference/codecs.py [--vecinfer PATH] [--only kivi-2,quarot-4] [--table]

Makes a seeded tensor (outlier channels, channel means, RoPE'd keys, quiet, zero and constant tokens), lets the command code it by each
preset, codes it again here and prints, per side: the largest and the relative RMS difference, the share of elements that differ by more
than 1e-3 of the tensor's RMS, and the bits that the source's formulas give beside the reported ones. Exact tokens (window, sinks)
must come back as they were. Where a description leaves a choice open, each reading is computed and the nearest one is named; the first is
the documented one, and another being nearer by more than a flipped code counts as a difference. Without --vecinfer only this file's own
checks run. Exit code 1 where anything is beyond the tolerances below (scales are halves, so a code may flip at a tie: SHARE).

Section numbers are those of the project's reference notes (peers.md A.1-A.10, paper.md 8-9), as in docs/methods.md.
What cannot be had twice is taken from the command's output and checked for what it must be:
- k-means centroids: exact in a half, and no farther from a fixed point of Lloyd's iteration than GAIN; codes are then ours.
- random rotations (TurboQuant): orthogonal, not a Hadamard matrix. Learned bases (OSCAR, NOVA-KV, TaSQ): the moment of their definition.
- sign sketch of TurboQuant-prod: its projections are read off a slow path of tokens (each sign that flips shows one), then predict all.
- QJL's sketch: only that inner products are right in the mean and its outlier channels are better. Fisher weights: with gradients given.
"""
import argparse, itertools, json, math, pathlib, subprocess, sys, tempfile

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARE = 0.004   # of elements that may differ by more than 1e-3 RMS: one flip moves head_dim elements of a rotated token
RMS = 0.01      # relative RMS difference
GAIN = 0.05     # mean squared error that ten more Lloyd iterations may still gain


# ---- pieces shared by several methods ---------------------------------------------------------------------------------------------
def f16(x):
    return np.clip(np.float32(x), -65504, 65504).astype(np.float16).astype(np.float64)


def over(a, b):  # a / b, 0 where b is 0
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(a.shape), where=b != 0)


def hadamard(d):  # Sylvester's, orthonormal
    h = np.ones((1, 1))
    while len(h) < d:
        h = np.block([[h, h], [h, -h]])
    return h / math.sqrt(d)


def bit_reversal(d):
    bits = d.bit_length() - 1
    return np.array([int(format(i, f"0{bits}b")[::-1], 2) for i in range(d)])


def rope(x, positions, theta, turn=1):  # rotate-half: channel i pairs with i + d/2
    half = x.shape[-1] // 2
    angle = turn * np.outer(positions, theta ** (-np.arange(half) / half))
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def norm(x):
    return np.sqrt((x * x).sum(-1, keepdims=True))


def to_groups(x, group, axis):  # [head, token, channel] -> [..., group], and the way back; axis "token": channels of one token
    h, t, d = x.shape
    if axis == "token":
        return x.reshape(h, t, -1, min(group or d, d)), lambda y: y.reshape(h, t, d)
    assert t % group == 0
    return x.reshape(h, -1, group, d).swapaxes(2, 3), lambda y: y.swapaxes(2, 3).reshape(h, t, d)


def nearest(y, books):  # y [tokens, d], books [n_books, stages, ksub, dsub]: each piece's centroid, the next stage codes the rest
    dsub = books.shape[-1]
    out = np.zeros_like(y)
    for m in range(y.shape[1] // dsub):
        at = slice(m * dsub, (m + 1) * dsub)
        for stage in books[m % len(books)]:
            rest = y[:, at] - out[:, at]
            out[:, at] += stage[((rest[:, None] - stage[None]) ** 2).sum(-1).argmin(1)]
    return out


def lloyd_gain(points, centroids, weights=None):  # share of the error that ten more iterations take away
    w = np.ones(len(points)) if weights is None else weights
    error, c = [], centroids.copy()
    for _ in range(11):
        distance = (points ** 2).sum(1)[:, None] - 2 * points @ c.T + (c ** 2).sum(1)
        code = distance.argmin(1)
        error.append((w * ((points - c[code]) ** 2).sum(1)).sum())
        mass = np.bincount(code, w, len(c))
        mean = np.stack([np.bincount(code, w * p, len(c)) for p in points.T], 1)
        c = np.where(mass[:, None] > 0, over(mean, mass[:, None]), c)
    return 0.0 if error[0] == 0 else 1 - min(error) / error[0]


def lloyd_max(bits):  # levels of N(0, 1), as halves (A.8)
    levels = np.linspace(-3.5, 3.5, 2 ** bits) if bits > 1 else np.array([-1.0, 1.0])
    cdf = np.vectorize(lambda t: 0.5 * (1 + math.erf(t / math.sqrt(2))))
    for _ in range(20000):
        edge = np.concatenate([[-40], (levels[1:] + levels[:-1]) / 2, [40]])
        density = np.exp(-edge ** 2 / 2) / math.sqrt(2 * math.pi)
        new = (density[:-1] - density[1:]) / np.diff(cdf(edge))
        if np.abs(new - levels).max() < 1e-10:
            break
        levels = new
    return f16(levels)


def levels_of(y, levels):
    return levels[np.abs(y[..., None] - levels).argmin(-1)]


# ---- integer codes ----------------------------------------------------------------------------------------------------------------
def kivi(x, bits, clip=1.0, rounded=False):  # A.1; x [..., group]; rounded: extremes become halves before the scale is made
    n, low, high = 2 ** bits - 1, clip * x.min(-1, keepdims=True), clip * x.max(-1, keepdims=True)
    s = f16((f16(high) - f16(low)) / n) if rounded else f16((high - low) / n)
    return np.rint(np.clip(over(x - f16(low), s), 0, n)) * s + f16(low)


def quarot(x, bits, clip=0.95, early=True):  # A.9 asymmetric; early: codes against the scale as a half
    n, low, high = 2 ** bits - 1, clip * x.min(-1, keepdims=True), clip * x.max(-1, keepdims=True)
    s = f16((high - low) / n) if early else (high - low) / n
    zero = np.rint(over(-low, s))
    q = np.clip(np.rint(over(x, s)) + zero, 0, n)
    return np.where(s == 0, f16(x), (q - f16(zero)) * f16(s))  # a constant group: exact to a half (preset)


def quarot_symmetric(x, bits, clip=0.95, early=True):
    s = clip * np.abs(x).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    s = f16(s) if early else s
    return np.clip(np.rint(over(x, s)), -2 ** (bits - 1), 2 ** (bits - 1) - 1) * f16(s)


def ggml(x, bits, early=False, up=True):  # q4_0: the extreme value keeps its sign and becomes -8; q8_0: by the largest magnitude
    top = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)
    s = top / -8 if bits == 4 else np.abs(top) / 127
    y = over(x, f16(s) if early else s)
    if bits == 4 and up:
        q = np.floor(y + 8.5) - 8
    else:
        q = np.sign(y) * np.floor(np.abs(y) + 0.5)
    return np.clip(q, -8 if bits == 4 else -128, 7 if bits == 4 else 127) * f16(s)


def vllm_integer(x, bits, early=False):  # A.8, values of vLLM
    low = x.min(-1, keepdims=True)
    s = np.maximum(1e-8, (x.max(-1, keepdims=True) - low) / (2 ** bits - 1))
    q = np.floor(over(x - (f16(low) if early else low), f16(s) if early else s) + 0.5)
    return np.clip(q, 0, 2 ** bits - 1) * f16(s) + f16(low)


# ---- a run of the command ---------------------------------------------------------------------------------------------------------
def tensors(tokens, d, seed=7, heads=2, q_heads=4):
    r = np.random.default_rng(seed)
    theta, at = 10000.0, np.arange(tokens)
    key = r.standard_normal((heads, tokens, d)) * r.uniform(0.3, 1.5, (heads, 1, d)) + r.standard_normal((heads, 1, d))
    key[:, :, [3, d // 2 + 5]] *= 6                                     # outlier channels
    key *= np.exp(0.3 * r.standard_normal((heads, tokens, 1)))          # tokens of unequal norms
    for i, t in enumerate(range(5, tokens, 41)):                        # quiet tokens, ever quieter
        key[:, t] *= 0.1 * 0.8 ** i
    mix = np.eye(d) + 0.3 * r.standard_normal((heads, d, d)) / math.sqrt(d)
    value = np.einsum("htd,hde->hte", r.standard_normal((heads, tokens, d)) * r.uniform(0.2, 1, (heads, 1, d)), mix)
    value[r.random(value.shape) < 0.003] *= 8
    query = rope(r.standard_normal((q_heads, tokens, d)) * r.uniform(0.2, 2, (q_heads, 1, d)) + 0.5, at, theta)
    key[:, 70] = value[:, 71] = 0
    value[:, 72], value[:, 73] = 0.3, 0.0
    value[:, 73, 0] = 2.7                                               # constant after a Hadamard
    return {"key": np.float32(rope(key, at, theta)), "value": np.float32(value), "query": np.float32(query)}, theta


class Run:
    """Input and output of one run: x of a side, what came back, what the method found; own rows of `coded` tokens."""
    def __init__(self, vecinfer, method, data, theta, sets, window):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            with h5py.File(path / "in.h5", "w") as f:
                for k, v in data.items():
                    f[k] = v
                f.attrs["rope_theta"] = theta
            command = [vecinfer, "reconstruct", method, path / "in.h5", path / "out.h5"]
            done = subprocess.run(command + [a for s in sets for a in ("--set", s)], cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError((done.stderr or done.stdout).strip())
            with h5py.File(path / "out.h5") as f:
                self.out = {k: f[k][()].astype(np.float64) for k in f}
                self.attributes = dict(f.attrs)
        self.vecinfer, self.method, self.data, self.theta, self.sets, self.window = vecinfer, method, data, theta, sets, window
        self.x = {k: v.astype(np.float64) for k, v in data.items()}
        self.heads, self.tokens, self.d = self.x["key"].shape
        self.notes, self.own_bits = [], None

    def note(self, what, value, limit):  # one more check: a number that must not pass its limit
        self.notes.append((what, float(value), limit))

    def coded(self, side):  # first and past-the-last coded token: A.1, A.5 and the presets' window rules
        recent, sinks, *flush = self.window
        flush, t = flush[side == "value"], self.tokens
        if flush == "sliding" or recent == 0:
            end = max(sinks, t - recent)
        elif flush == "block":
            end = sinks + (t - sinks) // recent * recent
        else:  # a number: groups of it behind the newest
            end = max(0, t - recent) // flush * flush
        return sinks, end

    def rows(self, side, everything=False):
        a, b = (0, self.tokens) if everything else self.coded(side)
        return self.x[side][:, a:b]

    def pre_rope(self, x, turn=-1, everything=False):
        return rope(x, np.arange(*((0, self.tokens) if everything else self.coded("key"))), self.theta, turn)

    def vector(self, side, y, everything=None, weights=None, label="k-means"):
        """y's pieces by the reported centroids; `everything`: the rows they were trained on, to check that they are k-means'."""
        c = self.out[f"{side}_centroids"]
        self.note(f"{side} centroids as halves", np.abs(c - f16(c)).max(), 0)
        if everything is not None:
            dsub, gain = c.shape[-1], []
            pieces = everything.reshape(self.heads, everything.shape[1], -1, dsub)
            for g, m in itertools.product(range(c.shape[0]), range(c.shape[1])):
                p = pieces if c.shape[0] == 1 else pieces[g:g + 1]
                p = p if c.shape[1] == 1 else p[:, :, m:m + 1]
                gain.append(lloyd_gain(p.reshape(-1, dsub), c[g, m, 0]))
            self.note(f"{side} {label}: error that more iterations take away", np.mean(gain), GAIN)
        return np.stack([nearest(y[h], c[h % len(c)]) for h in range(self.heads)])

    def levels(self, side, bits):  # universal levels: ours, and those reported must be them
        own = lloyd_max(bits)
        self.note(f"{side} levels of N(0, 1)", np.abs(np.sort(self.out[f"{side}_centroids"].ravel()) - own).max(), 2e-3)
        return own

    def matrix(self, side, own=None, limit=1e-4):
        m = self.out[f"{side}_matrix"]
        if own is not None:
            self.note(f"{side} matrix, relative", np.abs(m - own).max() / np.abs(own).max(), limit)
        return m


def again(run, *sets, **data):  # the same with other settings or other data
    return Run(run.vecinfer, run.method, {**run.data, **data}, run.theta, [*run.sets, *sets], run.window)


# ---- the methods: each returns the readings {label: rows} of keys and of values, and (key, value) payload and metadata bits ---------
def m_kivi(bits, group):  # A.1
    def method(run):
        def side(x, axis):
            g, back = to_groups(x, group, axis)
            return {"scale of f32 extremes": back(kivi(g, bits)), "scale of halves": back(kivi(g, bits, rounded=True))}
        return side(run.rows("key"), "channel"), side(run.rows("value"), "token"), (bits, bits, 32 / group, 32 / min(group, run.d))
    return method


def m_quarot(bits, symmetric=False):  # A.9
    def method(run):
        h = hadamard(run.d)
        code = quarot_symmetric if symmetric else quarot
        sides = [{"codes by the scale as a half": code(run.rows(s) @ h, bits) @ h,
                  "codes by the f32 scale": code(run.rows(s) @ h, bits, early=False) @ h} for s in ("key", "value")]
        meta = (16 if symmetric else 32) / run.d
        return *sides, (bits, bits, meta, meta)
    return method


def m_llamacpp(bits, rotated):  # B.1, B.3 and the format of ggml's blocks
    def method(run):
        h = hadamard(run.d) if rotated else np.eye(run.d)
        def side(x):
            g, back = to_groups(x @ h, 32, "token")
            return {"codes by the f32 scale, half up": back(ggml(g, bits)) @ h,
                    "f32 scale, half away from zero": back(ggml(g, bits, up=False)) @ h,
                    "codes by the scale as a half": back(ggml(g, bits, early=True)) @ h,
                    "scale as a half, half away": back(ggml(g, bits, early=True, up=False)) @ h}
        return side(run.rows("key")), side(run.rows("value")), (bits, bits, 0.5, 0.5)
    return method


def m_turboquant(bits, sketch=False):  # A.8; the norm is a half, the rotation is the reported one
    def one(run, side, bits):
        m = run.matrix(side)
        run.note(f"{side} rotation is orthogonal", np.abs(m @ m.swapaxes(1, 2) - np.eye(run.d)).max(), 1e-5)
        run.note(f"{side} rotation: share of entries of a Hadamard's size", (np.abs(np.abs(m) * run.d ** 0.5 - 1) < 1e-3).mean(), 0.1)
        x, own = run.rows(side), run.levels(side, bits)
        def back(n, divisor):
            y = over(x, divisor) @ m * math.sqrt(run.d)
            return y, levels_of(y, own), lambda y: y @ m.swapaxes(1, 2) * n / math.sqrt(run.d)
        return [back(f16(norm(x)), f16(norm(x))), back(f16(norm(x)), norm(x))]
    def method(run):
        value = one(run, "value", bits)
        labels = ["divided by the norm as a half", "divided by the f32 norm"]
        values = {k: back(c) for k, (_, c, back) in zip(labels, value)}
        if not sketch:
            key = one(run, "key", bits)
            return {k: back(c) for k, (_, c, back) in zip(labels, key)}, values, (bits, bits, 16 / run.d, 16 / run.d)
        projections = find_projections(run, bits - 1, one)
        run.note("key sketch: projections not found", run.d - len(projections), 0)
        run.note("key sketch: variance of the projections - 1", abs(np.mean(projections ** 2) - 1), 0.1)
        y, c, back = one(run, "key", bits - 1)[0]
        keys = {}
        for label, length in (("norm of the rest as a half", f16(norm(y - c))), ("norm of the rest in f32", norm(y - c)),
                              ("norm of the rest as a half, unit keys", f16(norm(y - c) / math.sqrt(run.d)) * math.sqrt(run.d))):
            signs = np.where((y - c) @ projections.T >= 0, 1, -1)
            keys[label] = back(c + math.sqrt(math.pi / 2) / run.d * length * (signs @ projections))
        return keys, values, (bits, bits, 32 / run.d, 16 / run.d)
    return method


def find_projections(run, bits, one):
    """Rows S_i of r^ = sqrt(pi/2)/m |r| sum_i sign(S_i.r) S_i: along a slow path of tokens each step shows no or one flip, 2 S_i."""
    r = np.random.default_rng(3)
    arc = np.linspace(0, 8 * math.pi, 12000)[None, :, None]
    weights = [np.cos(arc), np.sin(arc), 0.7 * np.cos(arc * 0.618), 0.7 * np.sin(arc * 0.382)]
    path = sum(w * r.standard_normal((run.heads, 1, run.d)) for w in weights)
    slow = again(run, key=np.float32(path), value=np.float32(path), query=np.float32(path))
    y, c, _ = one(slow, "key", bits)[0]
    n = f16(norm(slow.rows("key")))
    seen = over(slow.out["key"], n) @ slow.matrix("key") * math.sqrt(run.d) - c
    seen = seen / norm(y - c) * run.d / math.sqrt(math.pi / 2)
    step = np.diff(seen, axis=1)[np.abs(np.diff(c, axis=1)).max(-1) == 0] / 2
    length = norm(step)[:, 0] / math.sqrt(run.d)
    step = step[(length > 0.6) & (length < 1.35)]
    unit = step / norm(step)
    found, left = [], np.ones(len(step), bool)
    while left.any():
        same = np.abs(unit @ unit[left.argmax()]) > 0.98
        if same.sum() >= 3:  # two flips in one step make a sum that is not seen again
            found.append(np.median(step[same] * np.sign(unit[same] @ unit[left.argmax()])[:, None], 0))
        left &= ~same
    return np.array(found).reshape(-1, run.d)


def m_turboquant_vllm(bits):  # A.8: level vector to unit length, then the norm
    def method(run):
        h, x = hadamard(run.d), run.rows("key")
        own = run.levels("key", bits)
        keys = {}
        for label, divisor in (("divided by the norm as a half", f16(norm(x))), ("divided by the f32 norm", norm(x))):
            y = levels_of(over(x, divisor) @ h * math.sqrt(run.d), own)
            keys[label] = over(y, norm(y)) * f16(norm(x)) @ h
        v = run.rows("value")
        values = {"codes by the f32 scale": vllm_integer(v, bits), "codes by the scale as a half": vllm_integer(v, bits, early=True)}
        return keys, values, (bits, bits, 16 / run.d, 32 / run.d)
    return method


def m_vector(dsub, bits, transform="", stages=1, pre_rope=False, common=False, scope="subspace", center=False):
    """Plain vector codes with the reported centroids: VecInfer A.4 (S, H in its order), CQ A.6, MILLION A.3, residual-2."""
    def method(run):
        sides, h = [], hadamard(run.d)
        books = 1 if scope == "shared" else run.d // dsub
        for side in ("key", "value"):
            x, all_rows = run.rows(side), run.rows(side, True)
            if pre_rope and side == "key":
                x, all_rows = run.pre_rope(x), run.pre_rope(all_rows, everything=True)
            chain = np.broadcast_to(np.eye(run.d), (run.heads, run.d, run.d))
            mean = run.out["key_center"][:, None] if center and side == "key" else 0
            if center:  # vecinfer+: the basis is taken as it is
                chain = run.matrix(side)
                if side == "key":
                    run.note("key centre", np.abs(mean - all_rows.mean(1, keepdims=True)).max(), 1e-4)
            for step in transform if side == "key" else "":
                size = np.sqrt(np.maximum(np.abs(all_rows @ chain).max(1), 1e-4))  # lambda = sqrt(max |K|) (A.4)
                chain = chain @ h if step == "H" else chain / size[:, None]
            if transform and side == "key":
                run.matrix(side, chain)
            shape = (1 if common else run.heads, books, stages, 2 ** bits, dsub)
            run.note(f"{side} centroids' shape is {shape}", run.out[f"{side}_centroids"].shape != shape, 0)
            got = run.vector(side, (x - mean) @ chain, (all_rows - mean) @ chain) @ np.linalg.inv(chain) + mean
            sides.append({"reported centroids": run.pre_rope(got, 1) if pre_rope and side == "key" else got})
        payload = stages * bits / dsub
        return *sides, (payload, payload, 0, 0)
    return method


def m_kvquant(bits, q_norm):  # A.2
    def method(run):
        slots = max(1, round(0.01 * run.d))  # preset: a fixed number of slots a token and head
        def inlier_rows(y, drop):  # rows without their `drop` largest magnitudes
            return np.take_along_axis(y, np.argsort(np.abs(y), -1)[..., :run.d - drop], -1)
        def side(y, restore, name):
            """y: normalised rows; the slots hold what is farthest out, the others their nearest level."""
            code = levels_of(y, np.sort(run.out[f"{name}_centroids"].ravel()))
            far = np.argsort(-np.abs(y), axis=-1, kind="stable")[..., :slots]
            kept = np.zeros(y.shape, bool)
            np.put_along_axis(kept, far, True, -1)
            out = {}
            for only, label in ((kept, "farthest always kept"), (kept & (np.abs(y) > 1), "farthest kept if outside the thresholds"),
                                (np.abs(y) > 1, "all outside kept"), (np.zeros_like(kept), "none kept")):
                out[label + ", value as a half"] = np.where(only, f16(restore(y)), restore(code))
                out[label + ", normalised value as a half"] = restore(np.where(only, f16(y), code))
            return out
        # keys: thresholds of each channel over all tokens, 0.5 % on either side
        x_all = run.pre_rope(run.rows("key", True), everything=True)
        zero, span = run.out["key_center"][:, None], 1 / np.einsum("hii->hi", run.matrix("key"))[:, None]
        ways = {}
        for tail, way in itertools.product((0.005, 0.01), ("linear", "lower", "higher", "nearest", "inverted_cdf")):
            low, high = np.quantile(x_all, [tail, 1 - tail], axis=1, keepdims=True, method=way)
            if way in ("lower", "higher"):  # the same number of values left out at both ends
                ends = np.sort(x_all, 1)
                k = int(tail * run.tokens) + (way == "higher")
                low, high = ends[:, k:k + 1], ends[:, run.tokens - 1 - k:run.tokens - k]
            ways[f"tails of {tail}, {way}"] = max(np.abs((low + high) / 2 - zero).max(), np.abs((high - low) / 2 - span).max())
        best = min(ways, key=ways.get)
        run.note(f"key thresholds ({best})", ways[best], 1e-4)
        keys = side((run.pre_rope(run.rows("key")) - zero) / span, lambda y: y * span + zero, "key")
        keys = {k: run.pre_rope(v, 1) for k, v in keys.items()}
        # values: of each token over its head, the value farthest from the mean left out
        def token_range(v):
            order = np.argsort(-np.abs(v - v.mean(-1, keepdims=True)), axis=-1, kind="stable")
            rest = np.take_along_axis(v, order[..., slots:], -1)
            low, high = rest.min(-1, keepdims=True), rest.max(-1, keepdims=True)
            return f16((low + high) / 2), f16((high - low) / 2)
        v = run.rows("value")
        z, r = token_range(v)
        values = side(over(v - z, r), lambda y: y * r + z, "value")
        # levels: a k-means in one dimension of all inliers; with Q-norm stretched to the mean and deviation of what they code
        y = {"key": (x_all - zero) / span}
        v = run.rows("value", True)
        z, r = token_range(v)
        y["value"] = over(v - z, r)
        plain = again(run, "codec.key.code.q_norm=false", "codec.value.code.q_norm=false") if q_norm else run
        for name in ("key", "value"):
            raw = np.sort(plain.out[f"{name}_centroids"].ravel())
            gains = {label: lloyd_gain(p.reshape(-1, 1), raw[:, None]) for label, p in (
                ("without the slots", inlier_rows(y[name], slots)), ("inside [-1, 1]", y[name][np.abs(y[name]) <= 1]))}
            run.note(f"{name} levels ({min(gains, key=gains.get)}): error that more iterations take away", min(gains.values()), 0.01)
            if q_norm:
                ways = {}
                for label, p in (("without the slots", inlier_rows(y[name], slots)), ("inside [-1, 1]", y[name][np.abs(y[name]) <= 1]),
                                 ("all", y[name])):
                    q = levels_of(p, raw)
                    ways[label] = np.abs(f16((raw - q.mean()) * p.std() / q.std() + p.mean()) - np.sort(run.out[f"{name}_centroids"].ravel())).max()
                run.note(f"{name} Q-norm ({min(ways, key=ways.get)})", min(ways.values()), 2e-3)
            # Fisher weights: given gradients, the levels are a weighted k-means'
        r = np.random.default_rng(5)
        gradients = {f"{s}_gradient": np.float32(np.exp(1.5 * r.standard_normal(run.data[s].shape)) * (1 + 3 * (run.data[s] > 0))) for s in ("key", "value")}
        weighted = again(plain, **gradients)
        moved = np.abs(np.sort(weighted.out["value_centroids"].ravel()) - np.sort(plain.out["value_centroids"].ravel())).max()
        run.note("levels not moved by gradients", moved < 1e-3, 0)
        g = gradients["value_gradient"].astype(np.float64) ** 2
        w = np.where(np.argsort(np.argsort(np.abs(y["value"]), -1), -1) < run.d - slots, g + 0.1 * g.mean(), 0)
        gain = lloyd_gain(y["value"].reshape(-1, 1), np.sort(weighted.out["value_centroids"].ravel())[:, None], w.ravel())
        run.note("value levels by squared gradients: error that more iterations take away", gain, 0.01)
        return keys, values, (bits, bits, 32 * slots / run.d, 32 * slots / run.d + 32 / run.d)
    return method


def m_ott(run):  # A.5
    limit = next((int(s.split("=")[1]) for s in run.sets if s.startswith("codec.key.pool.auxiliary=")), 32)
    def all_of(mean_of, quiet=True, codes_of="group", strict=False):
        key, value = run.rows("key").copy(), run.rows("value").copy()
        for h in range(run.heads):
            pool, pushed = [], 0
            score = np.abs(key[h]).sum(-1)
            exact_key, exact_value = key[h].copy(), value[h].copy()
            for at in range(0, len(key[h]), 128):
                group = list(range(at, at + 128))
                tracing = pushed < limit
                pooled = pool
                if tracing:
                    order = sorted(pool + group, key=lambda t: (score[t], t))
                    pooled = order[:3] if quiet else order[-3:]
                    pushed += len([t for t in pool if t not in pooled])
                out = [t - at for t in pooled if t >= at]  # those of this group that stay exact
                pool = pooled
                for side, exact in ((key, exact_key), (value, exact_value)):
                    g = exact[at:at + 128].copy()
                    stay = [i for i in range(128) if i not in out]
                    g[out] = g[stay].mean(0) if mean_of == "others" else g.mean(0)
                    got = kivi(g.T, 2).T if side is key else kivi(g, 2)
                    got[out] = exact[at:at + 128][out]
                    side[h, at:at + 128] = got
        return key, value
    readings = {"mean of the group's other tokens": all_of("others"), "mean of the whole group": all_of("all")}
    loud = all_of("all", quiet=False)
    readings["largest instead of smallest keys"] = loud
    # 2 + 32/g bits; the exact tokens are constants: compared by m_ott's own line in `bits`
    return {k: v[0] for k, v in readings.items()}, {k: v[1] for k, v in readings.items()}, (None, None, None, None)


def m_oscar(run, keys=True):  # A.10: eigenvectors of the moment, Hadamard, bit reversal; asymmetric integers of a token, clipped
    unturn = hadamard(run.d)[:, bit_reversal(run.d)].T
    def basis(side, moments):
        e = run.matrix(side) @ unturn
        run.note(f"{side} rotation is orthogonal", np.abs(e @ e.swapaxes(1, 2) - np.eye(run.d)).max(), 1e-4)
        off = {}
        for label, moment in moments.items():
            c = e.swapaxes(1, 2) @ moment @ e
            diagonal = np.einsum("hii->hi", c)
            off[label] = np.abs(c - np.eye(run.d) * diagonal[:, :, None]).max() / diagonal.max()
        best = min(off, key=off.get)
        run.note(f"{side} axes: off the diagonal of the {best}", off[best], 1e-4)
        return run.matrix(side)
    def code(x, m, clip):
        y, back = x @ m, m.swapaxes(1, 2)
        return {"clipped minimum and scale as halves": kivi(y, 2, clip) @ back, "integer zero point": quarot(y, 2, clip) @ back,
                "scale of halves": kivi(y, 2, clip, rounded=True) @ back}
    v = run.rows("value", True)
    second = lambda x: x.swapaxes(-1, -2) @ x / x.shape[-2]
    moments = {"values' covariance": second(v - v.mean(1, keepdims=True)), "values' second moment": second(v)}
    values = code(run.rows("value"), basis("value", moments), 0.92)
    if not keys:
        return values
    q = run.x["query"].reshape(run.heads, -1, run.d)  # the query heads that read a KV head
    return code(run.rows("key"), basis("key", {"queries' second moment": second(q)}), 0.96), values, (2, 2, 32 / run.d, 32 / run.d)


def m_nova(run):  # A.10: keys centred, R R^T = query moment, token scale, centroids in fp8 e5m2
    x, all_rows = run.rows("key"), run.rows("key", True)
    mean, m = run.out["key_center"][:, None], run.matrix("key")
    run.note("key centre", np.abs(mean - all_rows.mean(1, keepdims=True)).max(), 1e-4)
    q = run.x["query"].reshape(run.heads, -1, run.d)
    moment = q.swapaxes(1, 2) @ q / q.shape[1]
    ratio = m @ m.swapaxes(1, 2)
    ratio *= (np.trace(moment, axis1=1, axis2=2) / np.trace(ratio, axis1=1, axis2=2))[:, None, None]  # scales cancel in the token scale
    run.note("key basis: R R^T is the queries' moment", np.abs(ratio - moment).max() / moment.max(), 1e-3)
    y_all = (all_rows - mean) @ m
    c = y_all.swapaxes(1, 2) @ y_all
    diagonal = np.einsum("hii->hi", c)
    run.note("key basis decorrelates keys", np.abs(c - np.eye(run.d) * diagonal[:, :, None]).max() / diagonal.max(), 1e-3)
    volume = np.log(diagonal).reshape(run.heads, -1, 4).sum(-1)
    order = np.sort(np.log(diagonal), -1).reshape(run.heads, -1, 4).sum(-1)
    run.note("key groups: spread of volumes over that of sorted axes", volume.std() / order.std(), 0.2)
    centroids = run.out["key_centroids"]
    bits = np.float16(centroids).view(np.uint16)
    run.note("key centroids are e5m2", (bits & 0xFF).any(), 0)
    y, y_all = (x - mean) @ m, over(y_all, f16(norm(y_all))) * math.sqrt(run.d)
    back = np.linalg.inv(m)
    keys = {}
    for label, n in (("token norm as a half", f16(norm(y))), ("token scale of RMS as a half", f16(norm(y) / math.sqrt(run.d)) * math.sqrt(run.d))):
        got = run.vector("key", over(y, n) * math.sqrt(run.d))
        keys[label] = got * n / math.sqrt(run.d) @ back + mean
    return keys, m_oscar(run, keys=False), (2, 2, 16 / run.d, 32 / run.d)


def m_oscar_token_norm(run):  # A.10 (OScaR): Hadamard, token norm, then per channel
    h = hadamard(run.d)
    y = run.rows("key") @ h
    n = f16(norm(y))
    g, back = to_groups(over(y, n) * math.sqrt(run.d), 128, "channel")
    v = run.rows("value")
    return ({"norm and scales as halves": back(kivi(g, 2)) * n / math.sqrt(run.d) @ h,
             "scale of halves": back(kivi(g, 2, rounded=True)) * n / math.sqrt(run.d) @ h},
            {"minimum and scale as halves": kivi(v, 2), "scale of halves": kivi(v, 2, rounded=True)},
            (2, 2, 32 / 128 + 16 / run.d, 32 / run.d))


def m_nsnquant(dsub, bits):  # paper.md 9.6: norm, centre, norm, Hadamard, one Gaussian codebook
    def method(run):
        sides, h, root = [], hadamard(run.d), math.sqrt(run.d)
        c = run.out["key_centroids"]
        run.note("one codebook", c.shape != (1, 1, 1, 2 ** bits, dsub), 0)
        normal = np.random.default_rng(11).standard_normal((60000, dsub))
        run.note("codebook of N(0, 1): error that more iterations take away", lloyd_gain(normal, c[0, 0, 0]), 0.03)
        for side in ("key", "value"):
            x, all_rows = run.rows(side), run.rows(side, True)
            first = lambda x, n: over(x, n) * root
            mean = first(all_rows, f16(norm(all_rows))).mean(1, keepdims=True)
            if f"{side}_center" in run.out:
                run.note(f"{side} centre of unit tokens", np.abs(mean - run.out[f"{side}_center"][:, None]).max(), 1e-3)
            n1 = f16(norm(x))
            y = first(x, n1) - mean
            n2 = f16(norm(y))
            got = run.vector(side, first(y, n2) @ h)
            sides.append({"norm, centre, norm as halves": (got @ h * n2 / root + mean) * n1 / root})
        return *sides, (bits / dsub, bits / dsub, 32 / run.d, 32 / run.d)
    return method


def m_kvarn(run):  # paper.md 9.5: Hadamard, blocks of 128 tokens evened out along both axes, Lloyd-Max levels
    h, own = hadamard(run.d), {s: run.levels(s, 2) for s in ("key", "value")}
    rms = lambda y, axis: np.sqrt((y * y).mean(axis, keepdims=True))
    def side(name):
        blocks = (run.rows(name) @ h).reshape(run.heads, -1, 128, run.d)
        out = {}
        for first, early, root in itertools.product(("tokens", "channels"), (True, False), (1, 0.5)):
            size = [np.ones_like(rms(blocks, -1)), np.ones_like(rms(blocks, -2))]  # of tokens, of channels
            for _ in range(8):
                for axis in (0, 1) if first == "tokens" else (1, 0):
                    r = rms(blocks / size[0] / size[1], -1 - axis)
                    size[axis] = size[axis] * np.where(r > 0, r, 1) ** root
            half = [f16(s) for s in size]
            y = blocks / half[0] / half[1] if early else blocks / size[0] / size[1]
            label = f"{first} first, codes by {'halves' if early else 'f32 scales'}{', square roots' if root < 1 else ''}"
            zero = (blocks == 0).all(-1, keepdims=True)
            got = np.where(zero, 0, levels_of(y, own[name]) * half[0] * half[1])
            out[label] = got.reshape(run.heads, -1, run.d) @ h
        return out
    return side("key"), side("value"), (2, 2, 16 / run.d + 16 / 128, 16 / run.d + 16 / 128)


def m_tasq(run):  # paper.md 9.1: before RoPE, channels by sqrt(mean of q^2 over a pair), token scale, groups of RoPE pairs
    x, all_rows = run.pre_rope(run.rows("key")), run.pre_rope(run.rows("key", True), everything=True)
    m, half = run.matrix("key"), run.d // 2
    q = (run.x["query"].reshape(run.heads, -1, run.d) ** 2).mean(1)
    w = np.tile(np.sqrt((q[:, :half] + q[:, half:]) / 2), 2)
    run.note("key matrix: a channel goes to one place", ((m != 0).sum(1) != 1).any() or ((m != 0).sum(2) != 1).any(), 0)
    ratio = np.abs(m).sum(2) / w
    run.note("key channel weights are sqrt of the pair's mean square", (ratio / ratio[:, :1] - 1).max(), 1e-3)
    source = np.abs(m).argmax(1)  # channel that comes to each place
    groups = np.sort(source.reshape(run.heads, -1, 8), -1)
    apart = sum(set(g[g < half] + half) != set(g[g >= half]) for h in groups for g in h)
    run.note("key groups that part a RoPE pair", apart, 0)
    # the smaller the determinants of the groups' covariances, the better the grouping: against groups of neighbouring pairs
    z = over(all_rows @ m, norm(all_rows @ m)) * math.sqrt(run.d)
    def cost(order):
        c = [np.cov(z[h][:, order[h, g:g + 8]].T) for h in range(run.heads) for g in range(0, run.d, 8)]
        return sum(np.exp(np.linalg.slogdet(k + 1e-6 * np.eye(8))[1] / 8) for k in c)
    place = source.argsort(1)  # where a channel stands in z
    pairs = np.arange(half).reshape(-1, 4)
    neighbours = np.stack([np.concatenate([np.concatenate([place[h, p], place[h, p + half]]) for p in pairs]) for h in range(run.heads)])
    run.note("key groups: determinants over those of neighbouring pairs", cost(np.tile(np.arange(run.d), (run.heads, 1))) / cost(neighbours), 1.0)
    y, back = x @ m, np.linalg.inv(m)
    y_all = all_rows @ m
    n = f16(norm(y))
    got = run.vector("key", over(y, n) * math.sqrt(run.d), over(y_all, f16(norm(y_all))) * math.sqrt(run.d))
    keys = {"token norm as a half": run.pre_rope(got * n / math.sqrt(run.d) @ back, 1)}
    values = {"reported centroids": run.vector("value", run.rows("value"), run.rows("value", True))}
    return keys, values, (1.25, 1.25, 16 / run.d, 0)


def m_chelsea(keep):  # A.7: chunks of 64, even tokens to their most similar odd one, weighted means, again until `keep` is left
    def method(run):
        key, value = run.rows("key").copy(), run.rows("value").copy()
        for h, at in itertools.product(range(run.heads), range(0, key.shape[1], 64)):
            members = [[t] for t in range(at, at + 64)]
            k, v = run.rows("key")[h], run.rows("value")[h]
            while len(members) > 64 * keep:
                mean = np.stack([k[m].mean(0) for m in members])
                unit = over(mean, norm(mean))
                link = (unit[::2] @ unit[1::2].T).argmax(1)
                members = [b + [t for a, to in zip(members[::2], link) if to == i for t in a] for i, b in enumerate(members[1::2])]
            for m in members:
                key[h, m], value[h, m] = f16(k[m].mean(0)), f16(v[m].mean(0))
        index = math.log2(64 * keep) / run.d
        return {"all even tokens a round": key}, {"all even tokens a round": value}, (16 * keep, 16 * keep, index, index)
    return method


def m_qjl(run):  # A.10; the projections are not written: inner products must be right in the mean
    x = run.rows("key")
    got = run.out["key"][:, :x.shape[1]]
    share = (got * x).sum(-1) / np.maximum((x * x).sum(-1), 1e-9)
    run.note("key sketch: mean of <k^, k> / <k, k> - 1", abs(share[norm(x)[..., 0] > 0].mean() - 1), 0.05)
    g, _ = to_groups(run.rows("value"), 32, "token")
    signs = 4  # a channel, in the first 15 layers; outliers: half as many
    payload = (signs * (run.d - 8) + signs / 2 * 8) / run.d if False else None
    return {"not replicated": got}, {"scale of f32 extremes": kivi(g, 2).reshape(run.rows("value").shape)}, (payload, 2, None, 1)


BLOCK, NONE, OSCAR = (128, 0, "block", "block"), (0, 0, "block", "block"), (256, 64, "sliding", "sliding")
KIVI, LAYER0 = (128, 0, "block", "sliding"), ["codec.exact_layers.first=0", "codec.exact_layers.last=0"]
OTT = (32, 0, 128, 128)
# name: method, window, and where they are not the usual ones: tokens, head_dim, settings, name of the preset
METHODS = {
    "kivi-2": (m_kivi(2, 32), KIVI), "kivi-2-g64": (m_kivi(2, 64), KIVI), "kivi-1-g64": (m_kivi(1, 64), KIVI),
    "kivi-2-g128": (m_kivi(2, 128), KIVI), "kivi-4-g128": (m_kivi(4, 128), KIVI, 300, 128),
    "kvquant-nuq2": (m_kvquant(2, True), (0, 1, "block", "block")), "kvquant-nuq3": (m_kvquant(3, False), (0, 1, "block", "block")),
    **{f"quarot-{b}": (m_quarot(b), NONE) for b in (2, 3, 4)}, "quarot-2-sym": (m_quarot(2, True), NONE),
    **{f"turboquant-mse-{b}": (m_turboquant(b), NONE) for b in (2, 3, 4)},
    **{f"turboquant-prod-{b}": (m_turboquant(b, True), NONE) for b in (2, 3)},
    **{f"turboquant-vllm-{b}": (m_turboquant_vllm(b), NONE, 300, 64, LAYER0) for b in (3, 4)},
    **{f"llamacpp-q{b}_0{r}": (m_llamacpp(b, bool(r)), NONE) for b in (4, 8) for r in ("", "-rotated")},
    "oscar-2": (m_oscar, OSCAR, 480), "nova-kv-2": (m_nova, OSCAR, 900), "oscar-token-norm-2": (m_oscar_token_norm, BLOCK),
    "ott-2": (m_ott, OTT, 560, 64, ["codec.key.pool.skip_layers=0", "codec.value.pool.skip_layers=0"]),
    "ott-2, tracing stops": (m_ott, OTT, 820, 64, [f"codec.{s}.pool.{k}" for s in ("key", "value") for k in ("skip_layers=0", "auxiliary=3")], "ott-2"),
    "cq-4c8b": (m_vector(4, 8, pre_rope=True), NONE), "cq-2c8b": (m_vector(2, 8, pre_rope=True), NONE),
    "million-2": (m_vector(4, 8, common=True), BLOCK), "residual-2": (m_vector(8, 8, stages=2), BLOCK),
    "vecinfer-2": (m_vector(4, 8, "SH", scope="shared"), BLOCK), "vecinfer-subspace-2": (m_vector(4, 8, "SH"), BLOCK),
    "plain-2": (m_vector(4, 8, scope="shared"), BLOCK), "smooth-2": (m_vector(4, 8, "S", scope="shared"), BLOCK),
    "hadamard-2": (m_vector(4, 8, "H", scope="shared"), BLOCK), "hadamard-smooth-2": (m_vector(4, 8, "HS", scope="shared"), BLOCK),
    "vecinfer+2": (m_vector(4, 8, center=True), (112, 4, "block", "block")),
    "nsnquant-2": (m_nsnquant(4, 8), BLOCK), "nsnquant-1": (m_nsnquant(8, 8), BLOCK), "kvarn-2": (m_kvarn, BLOCK),
    "tasq-1.25": (m_tasq, BLOCK, 400), "chelsea-2": (m_chelsea(0.125), BLOCK), "chelsea-4": (m_chelsea(0.25), BLOCK), "qjl": (m_qjl, KIVI),
}


def total_bits(run, bits):  # docs/evaluation.md: at the fullest moment of the flush period that ends at these tokens
    recent, sinks, *flush = run.window
    t = run.tokens
    if recent and "block" in flush:
        t = sinks + (t - sinks) // recent * recent - 1
    total = 0
    for i, f in enumerate(flush):
        exact = min(t, sinks + (recent - 1 if recent and f == "block" else recent))
        total += (16 * exact + (bits[i] + bits[2 + i]) * (t - exact)) / t / 2
    return total


def compare(vecinfer, name, method, window, tokens=300, d=64, sets=(), preset=None):
    data, theta = tensors(tokens, d)
    run = Run(vecinfer, preset or name, data, theta, list(sets), window)
    *sides, bits = method(run)
    fine = True
    for side, readings in zip(("key", "value"), sides):
        x, got, (a, b) = run.x[side], run.out[side], run.coded(side)
        exact = np.ones(run.tokens, bool)
        exact[a:b] = False
        run.note(f"{side}: exact tokens that came back changed", (got[:, exact] != x[:, exact]).any(-1).sum(), 0)
        size, rows = math.sqrt((x * x).mean()), got[:, a:b]
        rank = {}
        for label, own in readings.items():
            e = np.abs(own - rows)
            rank[label] = (e > 1e-3 * size).mean(), math.sqrt((e * e).mean()) / size, e.max()
        first, label = next(iter(rank)), min(rank, key=rank.get)
        label = first if rank[first][0] <= rank[label][0] + SHARE and rank[first][1] <= RMS else label
        share, rms, most = rank[label]
        error = math.sqrt(((rows - x[:, a:b]) ** 2).sum() / (x[:, a:b] ** 2).sum())
        good = share <= SHARE and rms <= RMS and label == first
        fine &= good
        others = "" if len(rank) == 1 else " | next: " + ", ".join(f"{k} {v[0]:.4f}" for k, v in sorted(rank.items(), key=lambda r: r[1])[:3] if k != label)
        print(f"{name:20} {side:5} {b - a:4} coded  max {most:8.2g}  rms {rms:8.2g}  apart {share:7.5f}  (coding error {error:.3f})  "
              f"{'ok ' if good else 'DIFFERS'}  {label}{others}")
    reported = [run.attributes[k] for k in ("key_bits", "value_bits", "key_metadata_bits", "value_metadata_bits")]
    good = all(own is None or abs(own - r) < 1e-6 for own, r in zip(bits, reported))
    if None not in bits:
        run.note("bits_total, ours against reported", abs(total_bits(run, bits) - run.attributes["bits_total"]), 1e-6)
    shown = " ".join(f"{'-' if own is None else format(own, '.4f')}/{r:.4f}" for own, r in zip(bits, reported))
    print(f"{'':20} bits  own/reported: payload and metadata of key, value as K, V, K meta, V meta: {shown}  total {run.attributes['bits_total']:.4f}  "
          f"{'ok' if good else 'DIFFERS'}")
    for what, value, limit in run.notes:
        bad = not value <= limit
        fine &= not bad
        print(f"{'':20} {'DIFFERS' if bad else 'ok     '} {what}: {value:.3g} (limit {limit:g})")
    return fine and good


def self_test():
    r = np.random.default_rng(1)
    x = r.standard_normal((2, 256, 64))
    at = np.arange(256)
    assert np.allclose(rope(rope(x, at, 1e4), at, 1e4, -1), x) and np.allclose(hadamard(64) @ hadamard(64), np.eye(64))
    assert np.allclose(norm(rope(x, at, 1e4)), norm(x))
    for axis in ("token", "channel"):
        g, back = to_groups(x, 32, axis)
        assert np.array_equal(back(g), x) and g.shape[-1] == 32
        assert g[0, 0, 0, 1] == (x[0, 0, 1] if axis == "token" else x[0, 1, 0])
        assert (np.abs(back(kivi(g, 8)) - x).max(), np.abs(back(ggml(g, 8)) - x).max()) < (0.02, 0.02)
    step = (x.max(-1, keepdims=True) - x.min(-1, keepdims=True)) / 15
    assert (np.abs(kivi(x, 4) - x) <= 0.51 * step).all() and (np.abs(quarot(x, 4, 1.0) - x) <= 1.1 * step).all()
    assert np.allclose(quarot(np.full((1, 64), 0.3), 2), f16(0.3)) and np.allclose(kivi(np.full((1, 64), 0.3), 2), f16(0.3))
    assert np.array_equal(ggml(np.array([[-8.0, 4.0, 7.0, 8.0]]), 4), [[-8, 4, 7, 7]])
    assert np.allclose(lloyd_max(1), [-0.7979, 0.7979], atol=1e-3) and np.allclose(lloyd_max(2), [-1.51, -0.4528, 0.4528, 1.51], atol=1e-3)
    books = r.standard_normal((16, 2, 32, 4))
    assert np.abs(nearest(x[0], books) - x[0]).mean() < np.abs(nearest(x[0], books[:, :1]) - x[0]).mean()
    points = np.repeat([[0.0], [1.0], [5.0], [6.0]], 50, 0)
    assert lloyd_gain(points, np.array([[0.5], [5.5]])) == 0 and lloyd_gain(points, np.array([[0.0], [1.0]])) > 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vecinfer", help="the program; without it only this file's own checks run")
    parser.add_argument("--only", help="names, separated by commas")
    arguments = parser.parse_args()
    self_test()
    print("own checks: ok")
    if not arguments.vecinfer:
        return 0
    program, bad = str(pathlib.Path(arguments.vecinfer).resolve()), []
    for name, how in METHODS.items():
        if arguments.only and name not in arguments.only.split(","):
            continue
        try:
            fine = compare(program, name, *how)
        except (RuntimeError, KeyError, ValueError) as error:
            fine = print(f"{name:20} DIFFERS  {type(error).__name__}: {error}")
        if not fine:
            bad.append(name)
    print("differing: " + (", ".join(bad) if bad else "none"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
