#!/usr/bin/env python3
"""The published KV-cache codecs once more in numpy, written from their descriptions alone, against `vecinfer reconstruct`.

    python3 tests/reference/codecs.py [--vecinfer PATH] [--only kivi-2,quarot-4] [--verbose]

Makes a seeded tensor (outlier channels, channel means, RoPE'd keys; quiet, zero, constant and tied tokens), lets the command
code it by each preset, codes it again here and prints, a side a line: the largest difference, the RMS difference over the
tensor's RMS, the share of elements that differ by more than 1e-3 of it, and bits an element (payload + metadata), those of the
source's formulas beside the reported ones. Exact tokens (window, sinks) must come back unchanged. Where a description leaves a
choice open each reading is computed and the nearest is named; the first is the documented one (or, where nothing is written,
the one that the command was found to take), and another being nearer is a difference. Without --vecinfer only this file's own
checks run. Exit code 1 where anything is beyond SHARE, RMS or a check's own limit. Needs numpy, h5py.

Sections are those of the project's reference notes (A, B: peers.md; 8, 9: paper.md), as in docs/methods.md. What cannot be had
twice is taken from the command's output and checked for what it has to be:
- centroids: exact in a half, and ten more iterations of Lloyd gain less than GAIN; the codes are made here;
- TurboQuant's rotation: orthogonal, no Hadamard matrix; the projections of its sign sketch are read off a path of slowly
  turning keys, where a sign that flips shows one of them; then they must predict all other keys;
- learned bases (OSCAR, NOVA-KV, TaSQ): the moment, groups and volumes of their definition; vecinfer+'s basis as it is;
- QJL's sketch: only that inner products are right in the mean.
"""
import argparse, itertools, math, pathlib, subprocess, sys, tempfile

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARE, RMS = 0.004, 0.01  # scales are halves: a code may flip at a tie, and one flip moves all channels of a rotated token
GAIN = 0.05


# ---- pieces -----------------------------------------------------------------------------------------------------------------
def f16(x):
    return np.clip(np.float32(x), -65504, 65504).astype(np.float16).astype(np.float64)


def over(a, b):  # a / b, 0 where b is 0
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(a.shape), where=b != 0)


def hadamard(d):  # Sylvester's, orthonormal (1.3)
    h = np.ones((1, 1))
    while len(h) < d:
        h = np.block([[h, h], [h, -h]])
    return h / math.sqrt(d)


def bit_reversal(d):
    return np.array([int(format(i, f"0{d.bit_length() - 1}b")[::-1], 2) for i in range(d)])


def rope(x, positions, theta, turn=1):  # rotate-half: channel i pairs with i + d/2
    half = x.shape[-1] // 2
    angle = turn * np.outer(positions, theta ** (-np.arange(half) / half))
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def norm(x):
    return np.sqrt((x * x).sum(-1, keepdims=True)) if x.size else x[..., :1]


def second_moment(x):
    return x.swapaxes(-1, -2) @ x / x.shape[-2]


def off_diagonal(c):  # largest entry beside the diagonals, over the largest on them
    diagonal = np.einsum("hii->hi", c)
    return np.abs(c - np.eye(c.shape[-1]) * diagonal[:, :, None]).max() / diagonal.max()


def grouped(x, group, axis):  # [head, token, channel] -> [..., group] and the way back; "token": channels of one token
    h, t, d = x.shape
    if axis == "token":
        return x.reshape(h, t, -1, min(group or d, d)), lambda y: y.reshape(h, t, d)
    return x.reshape(h, -1, group, d).swapaxes(2, 3), lambda y: y.swapaxes(2, 3).reshape(h, t, d)


def nearest(y, books):  # [tokens, d], [n_books, stages, ksub, dsub]: each piece's centroid; a next stage codes what is left
    out, dsub = np.zeros_like(y), books.shape[-1]
    for m in range(y.shape[1] // dsub):
        at = slice(m * dsub, (m + 1) * dsub)
        for c in books[m % len(books)]:
            rest = y[:, at] - out[:, at]
            out[:, at] += c[sum((rest[:, None, j] - c[:, j]) ** 2 for j in range(dsub)).argmin(1)]
    return out


def lloyd_gain(points, centroids, weights=None):  # share of the error that ten more iterations take away
    w, error, c = np.ones(len(points)) if weights is None else weights, [], centroids
    for _ in range(11):
        code = ((points ** 2).sum(1)[:, None] - 2 * points @ c.T + (c ** 2).sum(1)).argmin(1)
        error.append((w * ((points - c[code]) ** 2).sum(1)).sum())
        mass = np.bincount(code, w, len(c))[:, None]
        c = np.where(mass > 0, over(np.stack([np.bincount(code, w * p, len(c)) for p in points.T], 1), mass), c)
    return (error[0] - min(error)) / max(error[0], 1e-6 * (w * (points ** 2).sum(1)).sum())


def best_error(p, w, k):  # of weighted k-means in one dimension, the best of 20 runs to the end
    order = np.argsort(p)
    p, w = p[order], w[order]
    total, r, best = np.concatenate([np.zeros((2, 1)), np.cumsum([w, w * p], 1)], 1), np.random.default_rng(0), math.inf
    for _ in range(20):
        c = np.sort(r.choice(p, k, replace=False))
        for _ in range(300):
            mass, mean = np.diff(total[:, [0, *np.searchsorted(p, (c[1:] + c[:-1]) / 2), len(p)]])
            c = np.where(mass > 0, over(mean, mass), c)
        best = min(best, (w * (p - to_levels(p, c)) ** 2).sum())
    return best


def lloyd_max(bits):  # levels of N(0, 1), as halves (A.8)
    levels = np.linspace(-1.0, 1.0, 2 ** bits)
    for _ in range(20000):
        edge = np.concatenate([[-40], (levels[1:] + levels[:-1]) / 2, [40]])
        density = np.exp(-edge ** 2 / 2) / math.sqrt(2 * math.pi)
        old, mass = levels, np.diff([0.5 * math.erf(t / math.sqrt(2)) for t in edge])
        levels = (density[:-1] - density[1:]) / mass
        if np.abs(levels - old).max() < 1e-10:
            break
    return f16(levels)


def to_levels(y, levels):
    return levels[np.abs(y[..., None] - levels).argmin(-1)]


# ---- integer codes of the last axis -----------------------------------------------------------------------------------------
def kivi(x, bits, clip=1.0, rounded=False):  # A.1; rounded: the extremes become halves before the scale is made
    n, low, high = 2 ** bits - 1, clip * x.min(-1, keepdims=True), clip * x.max(-1, keepdims=True)
    s = f16((f16(high) - f16(low)) / n) if rounded else f16((high - low) / n)
    return np.rint(np.clip(over(x - f16(low), s), 0, n)) * s + f16(low)


def quarot(x, bits, clip=0.95, early=True):  # A.9, asymmetric; early: codes against the scale as a half
    n, low, high = 2 ** bits - 1, clip * x.min(-1, keepdims=True), clip * x.max(-1, keepdims=True)
    s = f16((high - low) / n) if early else (high - low) / n
    zero = np.rint(over(-low, s))
    q = np.clip(np.rint(over(x, s)) + zero, 0, n)
    return np.where(s == 0, f16(x), (q - f16(zero)) * f16(s))  # a constant group: exact to a half (preset)


def quarot_symmetric(x, bits, clip=0.95, early=True):  # A.9
    n = 2 ** (bits - 1)
    s = clip * np.abs(x).max(-1, keepdims=True) / (n - 1)
    return np.clip(np.rint(over(x, f16(s) if early else s)), -n, n - 1) * f16(s)


def ggml(x, bits, early=False, away=False):  # B.1; q4_0: the extreme with its sign is -8, half up; q8_0: half away from zero
    top = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)
    s = top / -8 if bits == 4 else np.abs(top) / 127
    y = over(x, f16(s) if early else s)
    q = np.sign(y) * np.floor(np.abs(y) + 0.5) if away or bits == 8 else np.floor(y + 8.5) - 8
    return np.clip(q, -8 if bits == 4 else -128, 7 if bits == 4 else 127) * f16(s)


def vllm(x, bits, early=False):  # A.8, values
    low = x.min(-1, keepdims=True)
    s = np.maximum(1e-8, (x.max(-1, keepdims=True) - low) / (2 ** bits - 1))
    q = np.floor(over(x - (f16(low) if early else low), f16(s) if early else s) + 0.5)
    return np.clip(q, 0, 2 ** bits - 1) * f16(s) + f16(low)


# ---- a run of the command ---------------------------------------------------------------------------------------------------
def tensors(tokens, d, heads=2, q_heads=4, theta=10000.0):
    r, at = np.random.default_rng(7), np.arange(tokens)
    key = r.standard_normal((heads, tokens, d)) * r.uniform(0.3, 1.5, (heads, 1, d)) + r.standard_normal((heads, 1, d))
    key[:, :, [3, d // 2 + 5]] *= 6                                                # outlier channels
    key[:, :, 7:d // 2:9] += 2 * key[:, :, 1:d // 2 - 6:9]                         # channels that go together
    key *= np.exp(0.3 * r.standard_normal((heads, tokens, 1)))                     # tokens of unequal norms
    for i, t in enumerate(range(5, tokens, 41)):                                   # quiet tokens, ever quieter
        key[:, t] *= 0.1 * 0.8 ** i
    value = r.standard_normal((heads, tokens, d)) * r.uniform(0.2, 1, (heads, 1, d))
    value = value @ (np.eye(d) + 0.3 * r.standard_normal((heads, d, d)) / math.sqrt(d))
    value[r.random(value.shape) < 0.003] *= 8
    key[:, 70] = value[:, 71] = value[:, 73] = 0
    value[:, 72], value[:, 73, 0] = 0.3, 2.7                                       # constant, before and after a Hadamard
    value[:, 74] = np.resize([-8, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 7], d)          # ties of q4_0
    value[:, 75] = np.resize([0, 0.5, 1.5, 2.5, 3, 1, 2, 0.5], d)                  # ties of KIVI at 2 bits
    out = {"key": rope(key, at, theta), "value": value}
    out["query"] = rope(r.standard_normal((q_heads, tokens, d)) * r.uniform(0.2, 2, (q_heads, 1, d)) + 0.5, at, theta)
    for side in ("key", "value"):                                                  # of the log-loss, for Fisher weights
        out[side + "_gradient"] = r.standard_normal(value.shape) * np.exp(r.standard_normal(value.shape) + 0.5 * np.sign(out[side]))
    return {k: np.float32(v) for k, v in out.items()}, theta


class Run:
    """One run: what went in (x), what came out (out), which tokens are coded, and this file's checks of it."""
    def __init__(self, program, method, data, theta, sets, window):
        with tempfile.TemporaryDirectory() as folder:
            files = [f"{folder}/in.h5", f"{folder}/out.h5"]
            with h5py.File(files[0], "w") as f:
                f.attrs["rope_theta"] = theta
                for name, x in data.items():
                    f[name] = x
            done = subprocess.run([program, "reconstruct", method, *files] + [a for s in sets for a in ("--set", s)], cwd=ROOT,
                                  capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError((done.stderr or done.stdout).strip())
            with h5py.File(files[1]) as f:
                self.out, self.attributes = {k: f[k][()].astype(np.float64) for k in f}, dict(f.attrs)
        self.same, self.theta, self.sets, self.window, self.notes = (program, method, data), theta, sets, window, []
        self.x = {k: v.astype(np.float64) for k, v in data.items()}
        self.heads, self.tokens, self.d = self.x["key"].shape

    def again(self, sets=(), data=None):
        program, method, old = self.same
        return Run(program, method, data or old, self.theta, [*self.sets, *sets], self.window)

    def note(self, what, value, limit):
        self.notes.append((what, float(value), limit))

    def choose(self, what, ways, limit):  # {reading: error}: the smallest, by name
        best = min(ways, key=ways.get)
        self.note(f"{what}: {best}" + "".join(f" ({k} {v:.2g})" for k, v in ways.items() if k != best), ways[best], limit)

    def coded(self, side):  # first coded token and the one past the last: the flush rules of A.1, A.5 and the presets
        recent, sinks, *flush = self.window
        rule, left = flush[side == "value"], self.tokens - sinks
        if rule == "block" and recent:
            return sinks, sinks + left // recent * recent
        end = max(sinks, self.tokens - recent)
        return sinks, end if isinstance(rule, str) else end // rule * rule  # OTT: groups behind the newest

    def rows(self, side, name=None):  # what is coded
        a, b = self.coded(side)
        return self.x[name or side][:, a:b]

    def turned(self, x, turn=-1):  # keys before RoPE, and back: all tokens, or the coded ones
        first = 0 if x.shape[1] == self.tokens else self.coded("key")[0]
        return rope(x, np.arange(first, first + x.shape[1]), self.theta, turn)

    def vector(self, side, y, trained_on=None, weights=None):  # pieces of y by the reported centroids
        c = self.out[side + "_centroids"]
        self.note(f"{side} centroids are halves", np.abs(c - f16(c)).max(), 0)
        if trained_on is not None:
            cut = lambda x: x.reshape(self.heads, self.tokens, -1, c.shape[-1])
            of = lambda x, g, m: (x if len(c) == 1 else x[g:g + 1])[:, :, slice(None) if c.shape[1] == 1 else slice(m, m + 1)]
            gain = []
            for g, m in itertools.product(range(c.shape[0]), range(c.shape[1])):
                w = None if weights is None else of(cut(weights).sum(-1), g, m).ravel()
                gain.append(lloyd_gain(of(cut(trained_on), g, m).reshape(-1, c.shape[-1]), c[g, m, 0], w))
            self.note(f"{side} centroids: error that more iterations take away", np.mean(gain), GAIN)
        return np.stack([nearest(y[h], c[h % len(c)]) for h in range(self.heads)])

    def normal_levels(self, side, bits):
        own, got = lloyd_max(bits), np.sort(self.out[side + "_centroids"].ravel())
        self.note(f"{side} levels of N(0, 1)", np.abs(got - own).max() if got.shape == own.shape else 9, 2e-3)
        return own


# ---- methods: each returns the readings {name: coded rows} of keys and of values, and bits (payload K, V, metadata K, V) ----
def m_kivi(bits, group):  # A.1
    def side(x, axis):
        g, back = grouped(x, group, axis)
        return {"scale of f32 extremes": back(kivi(g, bits)), "scale of halves": back(kivi(g, bits, rounded=True))}
    return lambda run: (side(run.rows("key"), "channel"), side(run.rows("value"), "token"),
                        (bits, bits, 32 / group, 32 / min(group, run.d)))


def m_quarot(bits, code=quarot):  # A.9
    def method(run):
        h = hadamard(run.d)
        sides = [{"codes by the scale as a half": code(run.rows(s) @ h, bits) @ h,
                  "codes by the f32 scale": code(run.rows(s) @ h, bits, early=False) @ h} for s in ("key", "value")]
        constant = run.out["value"][:, 73] - run.x["value"][:, 73]
        run.note("a constant group comes back exact to a half", np.abs(constant).max() if code == quarot else 0, 2e-3)  # preset
        return *sides, (bits, bits, *[(32 if code == quarot else 16) / run.d] * 2)
    return method


def m_llamacpp(bits, rotated):  # B.1, B.3
    def method(run):
        h = hadamard(run.d) if rotated else np.eye(run.d)
        def side(name):
            g, back = grouped(run.rows(name) @ h, 32, "token")
            ways = {"codes by the f32 scale": {}, "codes by the scale as a half": {"early": True}}
            if bits == 4:
                ways["f32 scale, half away from zero"] = {"away": True}
            return {label: back(ggml(g, bits, **how)) @ h for label, how in ways.items()}
        return side("key"), side("value"), (bits, bits, 0.5, 0.5)
    return method


def m_turboquant(bits, sketch=False):  # A.8: the norm as a half, the reported rotation, levels of N(0, 1)
    def one(run, side, bits):  # rotated unit rows, their levels, the way back
        m, n, own = run.out[side + "_matrix"], f16(norm(run.rows(side))), run.normal_levels(side, bits)
        run.note(f"{side} rotation is orthogonal", np.abs(m @ m.swapaxes(1, 2) - np.eye(run.d)).max(), 1e-5)
        run.note(f"{side} rotation: entries of a Hadamard's size", (np.abs(np.abs(m) * run.d ** 0.5 - 1) < 1e-3).mean(), 0.1)
        y = over(run.rows(side), n) @ m * math.sqrt(run.d)
        return y, to_levels(y, own), lambda y: y @ m.swapaxes(1, 2) * n / math.sqrt(run.d)
    def find_projections(run):
        """The rest r comes back as sqrt(pi/2)/d |r| sum_i sign(S_i.r) S_i: on a slow path each step shows no flip or one, 2 S_i."""
        r, arc = np.random.default_rng(3), np.linspace(0, 8 * math.pi, 12000)[None, :, None]
        waves = [np.cos(arc), np.sin(arc), 0.7 * np.cos(0.618 * arc), 0.7 * np.sin(0.382 * arc)]
        path = np.float32(sum(w * r.standard_normal((run.heads, 1, run.d)) for w in waves))
        slow = run.again(data={"key": path, "value": path})
        y, c, _ = one(slow, "key", bits - 1)
        back = over(slow.out["key"], f16(norm(slow.x["key"]))) @ slow.out["key_matrix"] * math.sqrt(run.d)
        seen = (back - c) / norm(y - c) * run.d / math.sqrt(math.pi / 2)
        step = np.diff(seen, axis=1)[np.abs(np.diff(c, axis=1)).max(-1) == 0] / 2
        step = step[np.abs(norm(step)[:, 0] / math.sqrt(run.d) - 0.97) < 0.37]
        unit, found, left = step / norm(step), [], np.ones(len(step), bool)
        while left.any():
            cosine = unit @ unit[left.argmax()]
            if (np.abs(cosine) > 0.98).sum() > 2:  # two flips in one step make a sum that is not seen again
                found.append(np.median((step * np.sign(cosine)[:, None])[np.abs(cosine) > 0.98], 0))
            left &= np.abs(cosine) <= 0.98
        s = np.array(found).reshape(-1, run.d)
        for _ in range(3 if len(s) else 0):  # sharper, by the rows whose signs are right
            signs = np.where((y - c) @ s.T >= 0, 1, -1)
            right = np.abs(signs @ s - seen).max(-1) < 0.5
            s = np.linalg.lstsq(signs[right], seen[right], rcond=None)[0]
        run.note("key sketch: projections too few or too many", abs(run.d - len(s)), 0)
        run.note("key sketch: variance of the projections - 1", abs(np.mean(s ** 2) - 1), 0.1)
        return s
    def method(run):
        _, c, back = one(run, "value", bits)
        values = {"levels": back(c)}
        y, c, back = one(run, "key", bits - sketch)
        if not sketch:
            return {"levels": back(c)}, values, (bits, bits, 16 / run.d, 16 / run.d)
        s, length = find_projections(run), norm(y - c)
        rest = math.sqrt(math.pi / 2) / run.d * np.where((y - c) @ s.T >= 0, 1, -1) @ s
        keys = {"norm of the rest as a half": back(c + rest * f16(length)), "norm of the rest in f32": back(c + rest * length)}
        return keys, values, (bits, bits, 32 / run.d, 16 / run.d)
    return method


def m_turboquant_vllm(bits):  # A.8: the level vector to unit length, then the norm; values as integers
    def method(run):
        h, x, v = hadamard(run.d), run.rows("key"), run.rows("value")
        y = to_levels(over(x, f16(norm(x))) @ h * math.sqrt(run.d), run.normal_levels("key", bits))
        values = {"codes by the f32 scale": vllm(v, bits), "codes by the scale as a half": vllm(v, bits, early=True)}
        return {"levels": over(y, norm(y)) * f16(norm(x)) @ h}, values, (bits, bits, 16 / run.d, 32 / run.d)
    return method


def m_vector(dsub, bits, transform="", stages=1, pre_rope=False, groups=2, shared=False, fisher=False, basis=False):
    """Plain vector codes: VecInfer (A.4; transform: S and H in order, on keys), CQ (A.6), MILLION (A.3), residual-2, vecinfer+."""
    def method(run):
        sides = []
        for side in ("key", "value"):
            turn = run.turned if pre_rope and side == "key" else lambda x, turn=-1: x
            x, everything, mean = turn(run.rows(side)), turn(run.x[side]), 0
            matrix = np.broadcast_to(np.eye(run.d), (run.heads, run.d, run.d))
            if basis:
                matrix = run.out[side + "_matrix"]
                mean = everything.mean(1, keepdims=True) * (side == "key")
            for step in transform * (side == "key"):
                scale = np.sqrt(np.maximum(np.abs(everything @ matrix).max(1), 1e-4))[:, None]  # sqrt(max |K|) (1.2)
                matrix = matrix @ hadamard(run.d) if step == "H" else matrix / scale
            if transform and side == "key":
                run.note("key matrix", np.abs(run.out["key_matrix"] - matrix).max() / np.abs(matrix).max(), 1e-4)
            shape = (groups, 1 if shared else run.d // dsub, stages, 2 ** bits, dsub)
            run.note(f"{side} centroids are {shape}", run.out[side + "_centroids"].shape != shape, 0)
            w = turn(run.x[side + "_gradient"]) ** 2 if fisher else None
            w = w + 0.1 * w.mean() if fisher else None  # a tenth of the mean (preset)
            got = run.vector(side, (x - mean) @ matrix, (everything - mean) @ matrix, w) @ np.linalg.inv(matrix) + mean
            sides.append({"nearest centroids": turn(got, 1)})
        return *sides, (stages * bits / dsub, stages * bits / dsub, 0, 0)
    return method


def m_kvquant(bits, q_norm):  # A.2
    def normalised(v, slots):  # a token's values over its head; those farthest from the mean are left out (preset)
        far = np.argsort(-np.abs(v - v.mean(-1, keepdims=True)), axis=-1, kind="stable")
        rest = np.take_along_axis(v, far[..., slots:], -1)
        low, high = rest.min(-1, keepdims=True), rest.max(-1, keepdims=True)
        z, r = f16((low + high) / 2), f16((high - low) / 2)
        return over(v - z, r), lambda y: y * r + z
    def levels(run, slots, few):  # k-means in one dimension of the inliers, weighted by squared gradients; then Q-norm
        raw = run.again(["codec.key.code.q_norm=false", "codec.value.code.q_norm=false"]) if q_norm else run
        center, scale = run.out["key_center"][:, None], np.einsum("hii->hi", run.out["key_matrix"])[:, None]
        y = {"key": (run.turned(run.x["key"]) - center) * scale, "value": normalised(run.x["value"], slots)[0]}
        for side in y:
            inside = np.abs(y[side]) <= 1
            p, old = y[side][inside], np.sort(raw.out[side + "_centroids"].ravel())
            g = run.x[side + "_gradient"]
            w = {"g^2": (run.turned(g) if side == "key" else g)[inside] ** 2, "none": np.ones(p.shape)}
            w["g^2"] += 0.1 * w["g^2"].mean()  # preset
            if few:
                ways = {k: lloyd_gain(p[:, None], old[:, None], w) for k, w in w.items()}
                run.choose(f"{side} levels of few values: error that more iterations take away, weights", ways, 0.003)
            else:
                error = (w["g^2"] * (p - to_levels(p, old)) ** 2).sum() / best_error(p, w["g^2"], 2 ** bits)
                run.note(f"{side} levels: error over the best of 20 own runs, less 1", error - 1, 0.1)
            if q_norm:
                ways, q = {}, to_levels(p, old)
                for label, w in w.items():
                    mean = lambda x: np.average(x, weights=w)
                    stretch = math.sqrt(mean((p - mean(p)) ** 2) / mean((q - mean(q)) ** 2))
                    ways[label] = np.abs((old - mean(q)) * stretch + mean(p) - np.sort(run.out[side + "_centroids"].ravel())).max()
                run.choose(f"{side} Q-norm{' of few values' * few}, weights", ways, 2e-3)
    def method(run):
        slots = max(1, round(0.01 * run.d))  # a fixed number a token and head (preset); 16 + 16 bits each
        center, span = run.out["key_center"][:, None], 1 / np.einsum("hii->hi", run.out["key_matrix"])[:, None]
        everything = run.turned(run.x["key"])
        ends, ways = np.sort(everything, 1), {}
        for tail in (0.005, 0.01):  # 1 % in both tails together, or in each
            cases = {"interpolated": np.quantile(everything, [tail, 1 - tail], axis=1, keepdims=True)}
            for k in {math.floor(tail * run.tokens), math.ceil(tail * run.tokens)}:
                cases[f"{k} left out"] = ends[:, k:k + 1], ends[:, run.tokens - 1 - k:run.tokens - k]
            ways |= {f"tails of {tail} {k}": max(np.abs((a + b) / 2 - center).max(), np.abs((b - a) / 2 - span).max())
                     for k, (a, b) in cases.items()}
        run.choose("key thresholds", ways, 1e-4)
        def readings(y, back, levels):
            kept, code, out = np.zeros(y.shape, bool), to_levels(y, levels), {}
            np.put_along_axis(kept, np.argsort(-np.abs(y), axis=-1, kind="stable")[..., :slots], True, -1)
            outside = np.abs(y) > 1
            for label, where in (("farthest if outside", kept & outside), ("farthest", kept), ("all outside", outside)):
                out[f"{label} kept as a half"] = np.where(where, f16(back(y)), back(code))
                out[f"{label} kept, normalised, as a half"] = back(np.where(where, f16(y), code))
            return out
        got = {s: np.sort(run.out[s + "_centroids"].ravel()) for s in ("key", "value")}
        keys = readings((run.turned(run.rows("key")) - center) / span, lambda y: y * span + center, got["key"])
        values = readings(*normalised(run.rows("value"), slots), got["value"])
        levels(run, slots, False)
        if run.d == 64:
            few = run.again(data={k: v[:, :7] for k, v in run.same[2].items()})  # 896 values: k-means to the end on all of them
            levels(few, slots, True)
            run.notes += few.notes
        meta = 32 * slots / run.d
        return {k: run.turned(v, 1) for k, v in keys.items()}, values, (bits, bits, meta, meta + 32 / run.d)
    return method


def m_ott(auxiliary):  # A.5
    def method(run):
        x = {s: run.rows(s) for s in ("key", "value")}
        out = {s: v.copy() for s, v in x.items()}
        for h in range(run.heads):
            score, pool, pushed = np.abs(x["key"][h]).sum(-1), [], 0
            for at in range(0, x["key"].shape[1], 128):
                if pushed < auxiliary:  # the smallest of pool and group stay; who is pushed out stays exact, too
                    old, pool = pool, sorted(pool + list(range(at, at + 128)), key=lambda t: score[t])[:3]
                    pushed += len(set(old) - set(pool))
                    inside = [t - at for t in pool if t >= at]
                else:
                    inside = []
                for side, v in x.items():
                    g = v[h, at:at + 128].copy()
                    g[inside] = g.mean(0)  # of its group; does not reach the output but by the group's range
                    out[side][h, at:at + 128] = kivi(g.T, 2).T if side == "key" else kivi(g, 2)
                    out[side][h, at:at + 128][inside] = f16(v[h, at:at + 128][inside])
        # constants: 3 in the pool, those pushed out, up to 2 of the same event; as halves, with some bits to find them
        recent, n = run.window[0], (run.tokens - run.window[0]) // 128 * 128 - 128
        of_one = (run.attributes["key_metadata_bits"] - 32 / 128) * n / (3 + auxiliary + 2)
        run.note("bits of an exact token's channel above 16", abs(of_one - 16 - 1), 1)
        meta = (3 + auxiliary + 2) * of_one / n
        return {"pool as halves": out["key"]}, {"pool as halves": out["value"]}, (2, 2, 32 / 128 + meta, 32 / run.d + meta)
    return method


def oscar_side(run, side, moments, clip):  # A.10: eigenvectors, Hadamard, bit reversal; asymmetric integers of a token, clipped
    m = run.out[side + "_matrix"]
    e = m @ hadamard(run.d)[:, bit_reversal(run.d)].T
    gram = e @ e.swapaxes(1, 2)
    run.note(f"{side} rotation is orthogonal up to a factor", np.abs(gram / gram[:, :1, :1] - np.eye(run.d)).max(), 1e-4)
    run.choose(f"{side} axes", {k: off_diagonal(e.swapaxes(1, 2) @ c @ e) for k, c in moments.items()}, 1e-4)
    y, back = run.rows(side) @ m, np.linalg.inv(m)
    return {"minimum and scale as halves": kivi(y, 2, clip) @ back, "integer zero point": quarot(y, 2, clip) @ back,
            "scale of halves": kivi(y, 2, clip, rounded=True) @ back}


def oscar_value(run):
    v = run.x["value"]
    moments = {"values' covariance": second_moment(v - v.mean(1, keepdims=True)), "values' second moment": second_moment(v)}
    return oscar_side(run, "value", moments, 0.92)


def query_moment(run):  # over the query heads that read a KV head
    return second_moment(run.x["query"].reshape(run.heads, -1, run.d))


def m_oscar(run):
    keys = oscar_side(run, "key", {"queries' second moment": query_moment(run)}, 0.96)
    return keys, oscar_value(run), (2, 2, 32 / run.d, 32 / run.d)


def m_nova(run):  # A.10, 9.2: keys centred, R R^T = the queries' moment, keys decorrelated, even groups, token scale, e5m2 centroids
    mean, m, moment = run.x["key"].mean(1, keepdims=True), run.out["key_matrix"], query_moment(run)
    run.note("key centre", np.abs(mean[:, 0] - run.out["key_center"]).max(), 1e-4)
    made = m @ m.swapaxes(1, 2)
    made *= (np.trace(moment, axis1=1, axis2=2) / np.trace(made, axis1=1, axis2=2))[:, None, None]  # a factor is free
    run.note("key basis: R R^T is the queries' moment", np.abs(made - moment).max() / moment.max(), 1e-3)
    c = second_moment((run.x["key"] - mean) @ m)
    run.note("key basis decorrelates keys", off_diagonal(c), 1e-3)
    volume = lambda x: np.log(x).reshape(run.heads, -1, 4).sum(-1).std()
    axes = np.einsum("hii->hi", c)
    run.note("key groups: spread of volumes over that of sorted axes", volume(axes) / volume(np.sort(axes, -1)), 0.2)
    run.note("key centroids are e5m2", (np.float16(run.out["key_centroids"]).view(np.uint16) & 0xFF).any(), 0)
    y = (run.rows("key") - mean) @ m
    n = f16(norm(y)) / math.sqrt(run.d)
    return ({"token norm as a half": run.vector("key", over(y, n)) * n @ np.linalg.inv(m) + mean}, oscar_value(run),
            (2, 2, 16 / run.d, 32 / run.d))


def m_oscar_token_norm(run):  # A.10 (OScaR): Hadamard, token norm, then per channel; values of a token
    h, v = hadamard(run.d), run.rows("value")
    n = f16(norm(run.rows("key"))) / math.sqrt(run.d)
    g, back = grouped(over(run.rows("key") @ h, n), 128, "channel")
    return {"as KIVI": back(kivi(g, 2)) * n @ h}, {"as KIVI": kivi(v, 2)}, (2, 2, 32 / 128 + 16 / run.d, 32 / run.d)


def m_nsnquant(dsub, bits):  # 9.6: norm, centre, norm, Hadamard, one codebook made from N(0, 1)
    def method(run):
        sides, root, c = [], math.sqrt(run.d), run.out["key_centroids"]
        run.note("one codebook", c.shape != (1, 1, 1, 2 ** bits, dsub), 0)
        normal = np.random.default_rng(11).standard_normal((60000, dsub))
        run.note("codebook of N(0, 1): error that more iterations take away", lloyd_gain(normal, c[0, 0, 0]), GAIN)
        for side in ("key", "value"):
            n = f16(norm(run.x[side])) / root
            mean, n = over(run.x[side], n).mean(1, keepdims=True), f16(norm(run.rows(side))) / root
            y = over(run.rows(side), n) - mean
            n2 = f16(norm(y)) / root
            got = run.vector(side, over(y, n2) @ hadamard(run.d)) @ hadamard(run.d)
            sides.append({"norms as halves": (got * n2 + mean) * n})
        return *sides, (bits / dsub, bits / dsub, 32 / run.d, 32 / run.d)
    return method


def m_kvarn(run):  # 9.5: Hadamard, blocks of 128 tokens evened out along both axes in 8 rounds, levels of N(0, 1)
    def side(name):
        x = (run.rows(name) @ hadamard(run.d)).reshape(run.heads, -1, 128, run.d)
        levels, out = run.normal_levels(name, 2), {}
        for order, early, power in itertools.product(((1, 0), (0, 1)), (True, False), (1, 0.5)):  # the order is not written
            size = [np.ones(x.shape[:-1] + (1,)), np.ones(x.shape[:2] + (1, run.d))]  # of tokens, of channels
            for _, axis in itertools.product(range(8), order):
                r = np.sqrt(((x / size[0] / size[1]) ** 2).mean(-1 - axis, keepdims=True))
                size[axis] = size[axis] * np.where(r > 0, r, 1) ** power
            half = [f16(s) for s in size]
            y = x / half[0] / half[1] if early else x / size[0] / size[1]
            label = f"{('tokens', 'channels')[order[0]]} first, codes by {'halves' if early else 'f32 scales'}"
            label += ", by roots" * (power < 1)
            y = np.where(norm(x) == 0, 0, to_levels(y, levels) * half[0] * half[1])  # zeros come back as zeros
            out[label] = y.reshape(run.heads, -1, run.d) @ hadamard(run.d)
        return out
    return side("key"), side("value"), (2, 2, *[16 / run.d + 16 / 128] * 2)


def m_tasq(run):  # 9.1: before RoPE, channels by sqrt(mean q^2 of a pair), token scale, groups of RoPE pairs by covariance
    x, m, half = run.turned(run.x["key"]), run.out["key_matrix"], run.d // 2
    q = (run.x["query"].reshape(run.heads, -1, run.d) ** 2).mean(1)
    ratio = np.abs(m).sum(2) / np.tile(np.sqrt(q[:, :half] + q[:, half:]), 2)
    run.note("key matrix: a channel goes to one place", ((m != 0).sum(1) != 1).any() or ((m != 0).sum(2) != 1).any(), 0)
    run.note("key weights are sqrt(mean q^2 of the pair)", np.abs(ratio / ratio[:, :1] - 1).max(), 1e-3)
    groups = [(h, set(g)) for h, source in enumerate(np.abs(m).argmax(1)) for g in source.reshape(-1, 8)]
    run.note("key groups that part a RoPE pair", sum({(c + half) % run.d for c in g} != g for _, g in groups), 0)
    z = x * np.abs(m).sum(2)[:, None]
    z = over(z, norm(z))
    cost = lambda groups: sum(math.exp(np.linalg.slogdet(np.cov(z[h][:, sorted(g)].T))[1] / 8) for h, g in groups)
    plain = [(h, set(range(i, i + 4)) | set(range(i + half, i + half + 4))) for h in range(run.heads) for i in range(0, half, 4)]
    run.note("key groups: determinants over those of neighbouring pairs", cost(groups) / cost(plain), 0.99)
    scaled = lambda y: (over(y, f16(norm(y)) / math.sqrt(run.d)), f16(norm(y)) / math.sqrt(run.d))
    y, n = scaled(run.turned(run.rows("key")) @ m)
    got = run.vector("key", y, scaled(x @ m)[0])
    return ({"token norm as a half": run.turned(got * n @ np.linalg.inv(m), 1)},
            {"nearest centroids": run.vector("value", run.rows("value"), run.x["value"])}, (1.25, 1.25, 16 / run.d, 0))


def m_chelsea(keep):  # A.7: chunks of 64, each even token to its most similar odd one, weighted means, again until `keep` is left
    def method(run):
        x = {s: run.rows(s) for s in ("key", "value")}
        out = {s: v.copy() for s, v in x.items()}
        for h, at in itertools.product(range(run.heads), range(0, x["key"].shape[1], 64)):
            sets = [[t] for t in range(at, at + 64)]
            while len(sets) > 64 * keep:
                mean = np.stack([x["key"][h, s].mean(0) for s in sets])
                unit = over(mean, norm(mean))
                link = (unit[::2] @ unit[1::2].T).argmax(1)
                sets = [b + [t for a, to in zip(sets[::2], link) if to == i for t in a] for i, b in enumerate(sets[1::2])]
            for s, side in itertools.product(sets, x):
                out[side][h, s] = f16(x[side][h, s].mean(0))
        index = math.log2(64 * keep) / run.d
        return {"all even tokens": out["key"]}, {"all even tokens": out["value"]}, (16 * keep, 16 * keep, index, index)
    return method


def m_qjl(run):  # A.10; layer 0: 4 signs a channel, half as many for 8 outlier channels of 32 tokens; 2 norms, the channels' numbers
    x, g = run.rows("key"), grouped(run.rows("value"), 32, "token")
    got = run.out["key"][:, :x.shape[1]]
    share = ((got * x).sum(-1) / np.maximum((x * x).sum(-1), 1e-9))[norm(x)[..., 0] > 0]
    run.note("key sketch: mean of <k^, k> / <k, k>, less 1", abs(share.mean() - 1), 0.02)
    return {"not made again": got}, {"as KIVI": g[1](kivi(g[0], 2))}, (6, 2, 32 / run.d + 8 * 8 / 32 / run.d, 1)


BLOCK, ALL, OSCAR = (128, 0, "block", "block"), (0, 0, "block", "block"), (256, 64, "sliding", "sliding")
KIVI, KVQUANT, OTT = (128, 0, "block", "sliding"), (0, 1, "block", "block"), (32, 0, 128, 128)
NOT_EXACT = ["codec.exact_layers.first=0", "codec.exact_layers.last=0"]  # the one layer is layer 0
POOL = [f"codec.{s}.pool.skip_layers=0" for s in ("key", "value")]
# name (of the preset, up to a comma): method, window, then tokens, head_dim, settings
METHODS = {
    "kivi-2": (m_kivi(2, 32), KIVI), "kivi-2-g64": (m_kivi(2, 64), KIVI), "kivi-1-g64": (m_kivi(1, 64), KIVI),
    "kivi-2-g128": (m_kivi(2, 128), KIVI, 300, 128), "kivi-4-g128": (m_kivi(4, 128), KIVI, 300, 128),
    "kivi-2-g128, narrow head": (m_kivi(2, 128), KIVI),
    "kvquant-nuq2": (m_kvquant(2, True), KVQUANT), "kvquant-nuq3": (m_kvquant(3, False), KVQUANT),
    "kvquant-nuq2, wide head": (m_kvquant(2, True), KVQUANT, 300, 256),
    **{f"quarot-{b}": (m_quarot(b), ALL) for b in (2, 3, 4)}, "quarot-2-sym": (m_quarot(2, quarot_symmetric), ALL),
    **{f"turboquant-mse-{b}": (m_turboquant(b), ALL) for b in (2, 3, 4)},
    **{f"turboquant-prod-{b}": (m_turboquant(b, True), ALL) for b in (2, 3)},
    **{f"turboquant-vllm-{b}": (m_turboquant_vllm(b), ALL, 300, 64, NOT_EXACT) for b in (3, 4)},
    **{f"llamacpp-q{b}_0{r}": (m_llamacpp(b, r), ALL) for b in (4, 8) for r in ("", "-rotated")},
    "oscar-2": (m_oscar, OSCAR, 480), "nova-kv-2": (m_nova, OSCAR, 900), "oscar-token-norm-2": (m_oscar_token_norm, BLOCK),
    "ott-2": (m_ott(32), OTT, 560, 64, POOL),
    "ott-2, tracing stops": (m_ott(3), OTT, 820, 64, POOL + [f"codec.{s}.pool.auxiliary=3" for s in ("key", "value")]),
    "cq-4c8b": (m_vector(4, 8, pre_rope=True), ALL, 900), "cq-2c8b": (m_vector(2, 8, pre_rope=True), ALL, 900),
    "cq-4c8b-fisher": (m_vector(4, 8, pre_rope=True, fisher=True), ALL, 900),
    "million-2": (m_vector(4, 8, groups=1), BLOCK, 600), "residual-2": (m_vector(8, 8, stages=2), BLOCK, 600),
    "vecinfer-2": (m_vector(4, 8, "SH", shared=True), BLOCK), "vecinfer-subspace-2": (m_vector(4, 8, "SH"), BLOCK, 600),
    "plain-2": (m_vector(4, 8, shared=True), BLOCK), "smooth-2": (m_vector(4, 8, "S", shared=True), BLOCK),
    "hadamard-2": (m_vector(4, 8, "H", shared=True), BLOCK), "hadamard-smooth-2": (m_vector(4, 8, "HS", shared=True), BLOCK),
    "vecinfer+2": (m_vector(4, 8, basis=True), (112, 4, "block", "block"), 600),
    "nsnquant-2": (m_nsnquant(4, 8), BLOCK), "nsnquant-1": (m_nsnquant(8, 8), BLOCK), "kvarn-2": (m_kvarn, BLOCK),
    "tasq-1.25": (m_tasq, BLOCK, 2200), "qjl": (m_qjl, KIVI),
    "chelsea-2": (m_chelsea(1 / 8), BLOCK), "chelsea-4": (m_chelsea(1 / 4), BLOCK),
}


# ---- the comparison ---------------------------------------------------------------------------------------------------------
def total_bits(run, bits):  # docs/evaluation.md: at the fullest moment of the flush period that ends at these tokens
    recent, sinks, *flush = run.window
    period = recent if "block" in flush and recent else 1 if "sliding" in flush or not recent else flush[0]
    def exact(t, rule):
        if rule == "block" and recent:
            return sinks + (t - sinks) % recent
        return sinks + recent + (0 if isinstance(rule, str) else (t - sinks - recent) % rule)
    def at(t):
        e = [min(t, exact(t, rule)) for rule in flush]
        return sum(16 * e[i] + (bits[i] + bits[2 + i]) * (t - e[i]) for i in (0, 1)) / t / 2
    return max(at(t) for t in range(max(0, run.tokens - period) + 1, run.tokens + 1))


def compare(program, name, verbose, method, window, tokens=300, d=64, sets=()):
    run = Run(program, name.split(",")[0], *tensors(tokens, d), list(sets), window)
    *sides, bits = method(run)
    fine = True
    for i, (side, readings) in enumerate(zip(("key", "value"), sides)):
        x, got, (a, b) = run.x[side], run.out[side], run.coded(side)
        run.note(f"{side}: exact tokens that were changed", (np.delete(got - x, np.s_[a:b], 1) != 0).any(-1).sum(), 0)
        size, rank = math.sqrt((x * x).mean()), {}
        for label, own in readings.items():
            e = np.abs(own - got[:, a:b])
            rank[label] = (e > 1e-3 * size).mean(), math.sqrt((e * e).mean()) / size, e.max()
        first, best = next(iter(rank)), min(rank, key=rank.get)
        near = rank[first][0] <= SHARE and rank[first][1] <= RMS
        taken = first if near else best
        share, rms, most = rank[taken]
        reported = [run.attributes[f"{side}{k}_bits"] for k in ("", "_metadata")]
        good = near and np.allclose(reported, bits[i::2], atol=1e-9)
        rest = ", ".join(f"{k} {v[0]:.4f}" for k, v in sorted(rank.items(), key=lambda r: r[1]) if k != taken)
        print(f"{name:25} {side:5} {b - a:4} tokens  max {most:7.1e}  rms {rms:7.1e}  apart {share:7.5f}  "
              f"bits {bits[i]:.4g} + {bits[2 + i]:.4g} (reported {reported[0]:.4g} + {reported[1]:.4g})  "
              f"{'ok     ' if good else 'DIFFERS'} {taken}" + f"  [{rest}]" * bool(rest))
        fine &= good
    run.note("bits_total", abs(total_bits(run, bits) - run.attributes["bits_total"]), 1e-6)
    for what, value, limit in run.notes:
        bad = not value <= limit
        fine &= not bad
        if bad or verbose:
            print(f"{'':25} {'DIFFERS' if bad else 'ok     '} {what}: {value:.3g} (limit {limit:g})")
    return fine


def self_test():
    r, at = np.random.default_rng(1), np.arange(256)
    x = r.standard_normal((2, 256, 64))
    assert np.allclose(rope(rope(x, at, 1e4), at, 1e4, -1), x) and np.allclose(hadamard(64) @ hadamard(64), np.eye(64))
    assert np.allclose(norm(rope(x, at, 1e4)), norm(x)) and not np.allclose(rope(x, at, 1e4), x)
    for axis in ("token", "channel"):
        g, back = grouped(x, 32, axis)
        assert np.array_equal(back(g), x) and g[0, 0, 0, 1] == (x[0, 0, 1] if axis == "token" else x[0, 1, 0])
        assert np.abs(back(kivi(g, 8)) - x).max() < 0.02 and np.abs(back(ggml(g, 8)) - x).max() < 0.02
    step = (x.max(-1, keepdims=True) - x.min(-1, keepdims=True)) / 15
    assert (np.abs(kivi(x, 4) - x) <= 0.51 * step).all() and (np.abs(quarot(x, 4, 1.0) - x) <= 1.1 * step).all()
    assert (np.abs(vllm(x, 4) - x) <= 0.51 * step).all() and (np.abs(quarot_symmetric(x, 4, 1.0) - x) <= 1.2 * step).all()
    assert np.allclose(quarot(np.full((1, 64), 0.3), 2), f16(0.3)) and np.allclose(kivi(np.full((1, 64), 0.3), 2), f16(0.3))
    assert np.array_equal(kivi(np.array([[0, 0.5, 1.5, 2.5, 3]]), 2), [[0, 0, 2, 2, 3]])                     # half to even
    assert np.array_equal(ggml(np.array([[-8, 0.5, -0.5, 7, 8.0]]), 4), [[-8, 1, 0, 7, 7]])                  # half up, 7 at most
    assert np.allclose(lloyd_max(1), [-0.7979, 0.7979], atol=1e-3)
    assert np.allclose(lloyd_max(2), [-1.51, -0.4528, 0.4528, 1.51], atol=1e-3)
    books = r.standard_normal((16, 2, 32, 4))
    assert np.abs(nearest(x[0], books) - x[0]).mean() < np.abs(nearest(x[0], books[:, :1]) - x[0]).mean()
    points = np.repeat([[0.0], [1.0], [5.0], [6.0]], 50, 0)
    assert lloyd_gain(points, np.array([[0.5], [5.5]])) == 0 and lloyd_gain(points, np.array([[0.0], [1.0]])) > 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vecinfer", type=pathlib.Path, help="the program; without it only this file's own checks run")
    parser.add_argument("--only", help="presets, separated by commas")
    parser.add_argument("--verbose", action="store_true", help="every check, not only those beyond their limits")
    arguments = parser.parse_args()
    self_test()
    print("own checks: ok")
    bad = []
    for name, how in METHODS.items() if arguments.vecinfer else ():
        if arguments.only and name.split(",")[0] not in arguments.only.split(","):
            continue
        try:
            fine = compare(str(arguments.vecinfer.resolve()), name, arguments.verbose, *how)
        except (RuntimeError, KeyError, ValueError) as error:
            fine = print(f"{name:25} DIFFERS {type(error).__name__}: {error}")
        bad += [] if fine else [name]
    print("differing: " + ("; ".join(bad) or "none"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
