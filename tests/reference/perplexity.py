#!/usr/bin/env python3
"""Perplexity of every row of a store, computed again by an implementation that shares nothing with ours:
weights by the gguf package, tokens by tokenizers, the decoder in a page of torch, and the codec by the
reader printed in docs/artifacts.md (its code block is executed as it stands, which tests the page too).

    python3 tests/reference/perplexity.py STORE MODEL.gguf TEXT [--windows N] [--only A,B] > out.jsonl

Needs gguf, tokenizers, torch, numpy, h5py. Rows of mode `stream` are left out (they are decoded step by step).
"""
import argparse, hashlib, json, math, pathlib, re, sys

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
page = (ROOT / "docs/artifacts.md").read_text()
exec(re.search(r"```python\n(.*?)```", page, re.S).group(1))  # defines Reader


class FastReader(Reader):
    """The page's reader with its loop over sub-spaces in one tensor operation, and its files read once."""
    def __init__(self, *files):
        super().__init__(*files)
        self.kept = {}

    def books(self, side, layer, head):
        at = (side, layer, head)
        if at not in self.kept:
            self.kept[at] = super().books(*at)
        return self.kept[at]

    def codes(self, side, layer, head, x):
        books = torch.from_numpy(np.ascontiguousarray(self.books(side, layer, head)))
        dsub = books.shape[-1]
        y = torch.from_numpy(self.forward(side, layer, head, x)).view(len(x), -1, 1, dsub)
        out = []
        for rows in y.split(max(1, 2 ** 22 // (y.shape[1] * books.shape[1]))):
            distance = sum((books[None, :, :, j] - rows[..., j]).square() for j in range(dsub))
            out.append(distance.argmin(-1))
        return torch.cat(out).numpy()


class Model:
    def __init__(self, path):
        file = GGUFReader(path)
        arch = file.fields["general.architecture"].contents()
        get = lambda key: file.fields[f"{arch}.{key}"].contents()
        self.layers, self.dim = get("block_count"), get("embedding_length")
        self.heads, self.kv_heads = get("attention.head_count"), get("attention.head_count_kv")
        self.head_dim = self.dim // self.heads
        self.eps, self.base = get("attention.layer_norm_rms_epsilon"), get("rope.freq_base")
        self.w = {}
        for t in file.tensors:
            w = np.asarray(dequantize(t.data, t.tensor_type), np.float32)
            if arch == "llama" and re.search(r"attn_[qk]\.weight", t.name):  # undo the row order of GGUF's Llama
                rows = w.reshape(-1, self.head_dim // 2, 2, w.shape[1])
                w = rows.swapaxes(1, 2).reshape(w.shape)
            self.w[t.name] = torch.from_numpy(w.copy()).to(torch.get_default_dtype())
        self.out = self.w.get("output.weight", self.w["token_embd.weight"])

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.w[name]

    def losses(self, ids, attend):
        n = len(ids)
        x = self.w["token_embd.weight"][torch.tensor(ids)]
        inv = self.base ** (-torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        angle = torch.outer(torch.arange(n, dtype=torch.float64), inv)
        cos, sin = (f(torch.cat([angle, angle], 1)).to(torch.get_default_dtype()) for f in (torch.cos, torch.sin))
        half = self.head_dim // 2
        rope = lambda t: t * cos + torch.cat([-t[..., half:], t[..., :half]], -1) * sin
        for layer in range(self.layers):
            w = lambda name: self.w[f"blk.{layer}.{name}.weight"]
            h = self.norm(x, f"blk.{layer}.attn_norm.weight")
            bias = lambda name: self.w.get(f"blk.{layer}.{name}.bias", 0.0)
            split = lambda name, heads: (h @ w(name).T + bias(name)).view(n, heads, self.head_dim).transpose(0, 1)
            q, k, v = rope(split("attn_q", self.heads)), rope(split("attn_k", self.kv_heads)), split("attn_v", self.kv_heads)
            o = attend(layer, q, k, v)
            x = x + o.transpose(0, 1).reshape(n, -1) @ w("attn_output").T
            h = self.norm(x, f"blk.{layer}.ffn_norm.weight")
            x = x + (torch.nn.functional.silu(h @ w("ffn_gate").T) * (h @ w("ffn_up").T)) @ w("ffn_down").T
        logits = self.norm(x, "output_norm.weight") @ self.out.T
        return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").double()


def tokenizer(path):
    fields = GGUFReader(path).fields
    tokens, merges = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "merges"))
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges]))
    first, qwen = pre_tokenizers.Digits(individual_digits=True), fields["tokenizer.ggml.pre"].contents() == "qwen2"
    if qwen:
        tok.normalizer = normalizers.NFC()
        first = pre_tokenizers.Split(Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
                                           r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated")
    tok.pre_tokenizer = pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not qwen)])
    return tok


def integer(x, code, first):
    """x [n, d]; docs/artifacts.md, Integer code. Groups count from the first coded token."""
    y, coded = x.copy(), x[first:]
    top = np.float32(2 ** code["bits"] - 1)
    def group(g, axis):
        low = np.clip(g.min(axis, keepdims=True), -65504, 65504).astype(np.float16).astype(np.float32)
        step = np.clip((g.max(axis, keepdims=True) - g.min(axis, keepdims=True)) / top, -65504, 65504).astype(np.float16).astype(np.float32)
        safe = np.where(step == 0, 1, step)
        q = np.where(step == 0, 0, np.rint(np.clip((g - low) / safe, 0, top)))
        return q * step + low
    size = code["group"]
    if code["axis"] == "token":
        out = np.concatenate([group(coded[:, c:c + size], 1) for c in range(0, x.shape[1], size)], 1)
    else:
        out = np.concatenate([group(coded[t:t + size], 0) for t in range(0, len(coded), size)], 0)
    y[first:] = out
    return y.astype(np.float32)


def attention(model, mode, codec, reader, recent, sinks):
    def rebuilt(side, layer, rows):
        code = codec[side]["code"]
        if code["kind"] == "none":
            return rows
        out = []
        for head in range(model.kv_heads):
            x = rows[head].numpy().astype(np.float32)
            if code["kind"] == "integer":
                y = reader.forward(side, layer, head, x) if reader else x
                y = integer(y, code, sinks if mode == "window" else 0)
                out.append(reader.inverse(side, layer, head, y) if reader else y)
            else:
                out.append(reader.reconstruct(side, layer, head, x))
        return torch.from_numpy(np.stack(out)).to(torch.get_default_dtype())

    def attend(layer, q, k, v):
        n, group = q.shape[1], model.heads // model.kv_heads
        repeat = lambda t: t.repeat_interleave(group, 0)
        i = torch.arange(n)
        causal = i[:, None] >= i[None]
        scale = 1 / math.sqrt(model.head_dim)
        exact = (q @ repeat(k).transpose(1, 2)) * scale
        if mode == "exact":
            return exact.masked_fill(~causal, -math.inf).softmax(-1) @ repeat(v)
        kr, vr = rebuilt("key", layer, k), rebuilt("value", layer, v)
        coded = (q @ repeat(kr).transpose(1, 2)) * scale
        near = torch.zeros(n, n, dtype=torch.bool)
        if mode == "window":
            near = (i[:, None] - i[None] < recent) | (i[None] < sinks)
        p = torch.where(near, exact, coded).masked_fill(~causal, -math.inf).softmax(-1)
        return (p * near) @ repeat(v) + (p * ~near) @ repeat(vr)

    return attend


def content_hash(manifest):
    files = {name: entry["sha256"] for name, entry in manifest["outputs"].items()}
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def main():
    parser = argparse.ArgumentParser()
    for name in ("store", "model", "text"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--windows", type=int, default=1 << 30)
    parser.add_argument("--only", default="", help="artifacts whose folder begins with one of these, comma separated")
    parser.add_argument("--fast", action="store_true", help="sub-spaces in one operation, in f32")
    parser.add_argument("--f64", action="store_true", help="decoder in f64: how far rounding alone moves a row")
    args = parser.parse_args()
    if args.f64:
        torch.set_default_dtype(torch.float64)
    model = Model(args.model)
    ids = tokenizer(args.model).encode(args.text.read_text(), add_special_tokens=False).ids
    artifacts = {}
    for path in args.store.glob("*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        artifacts[content_hash(manifest)] = path.parent
    worst = 0.0
    for folder in sorted((args.store / "evaluate").iterdir()):
        if folder.suffix == ".partial" or not folder.name.startswith(tuple(args.only.split(","))):
            continue
        manifest = json.loads((folder / "manifest.json").read_text())
        metrics = json.loads((folder / "metrics.json").read_text())
        if metrics["task"] != "perplexity" or metrics["mode"] == "stream":
            continue
        if manifest["inputs"]["data_0"] != hashlib.sha256(args.text.read_bytes()).hexdigest():
            continue
        codec, protocol = manifest["fields"]["codec"], metrics["protocol"]
        inputs = manifest["inputs"]
        exact = codec["key"]["code"]["kind"] == "none" and codec["value"]["code"]["kind"] == "none"
        reader = None
        if "codebook" in inputs:
            reader = (FastReader if args.fast else Reader)(artifacts[inputs["transform"]] / "transform.h5", artifacts[inputs["codebook"]] / "codebook.h5")
        attend = attention(model, "exact" if exact else metrics["mode"], codec, reader,
                           protocol.get("recent", 0), protocol.get("sinks", 0))
        lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()][:args.windows]
        ours = theirs = tokens = 0
        with torch.no_grad():
            for w, line in enumerate(lines):
                size = protocol["window"]
                loss = model.losses(ids[w * size:(w + 1) * size], attend)
                theirs += loss.sum().item(); ours += line["nll"]; tokens += len(loss)
        a, b = math.exp(ours / tokens), math.exp(theirs / tokens)
        worst = max(worst, abs(a / b - 1))
        print(json.dumps({"artifact": folder.name, "mode": metrics["mode"], "exact": exact,
                          "bits": metrics["bits"]["bits_total"], "windows": len(lines),
                          "ours": round(a, 6), "independent": round(b, 6), "relative": float(f"{a / b - 1:.2e}")}), flush=True)
    print(json.dumps({"worst_relative": float(f"{worst:.2e}")}))


if __name__ == "__main__":
    sys.exit(main())
