#!/usr/bin/env python3
"""Makes the fixtures of the model-file, tokenizer and chat-template tests with independent implementations:
`gguf` (block formats), `tokenizers` (ids), Jinja2 (rendered templates), `safetensors`.

    pip install gguf tokenizers safetensors jinja2 numpy
    python3 tests/core/model/make_text_fixtures.py data/models/SmolLM2-135M-Instruct.Q4_1.gguf
"""
import datetime
import json
import math
import pathlib
import random
import sys

import gguf
import jinja2
import jinja2.ext
import numpy as np
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors.numpy import save_file
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

HERE = pathlib.Path(__file__).parent
OUT = HERE / "fixtures"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")


def dump(name, value):
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    (OUT / name).write_text(text + "\n")


# ---- block formats ----

def quants():
    rng = np.random.default_rng(1)
    types = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(OUT / "quants.gguf", "test")
    rows, columns = 3, 512
    for t in (types.F32, types.F16, types.BF16, types.Q4_0, types.Q4_1, types.Q5_0, types.Q5_1, types.Q8_0, types.Q4_K,
              types.Q5_K, types.Q6_K):
        name = t.name.lower()
        data = rng.standard_normal((rows, columns)).astype(np.float32)
        if t == types.F32:
            raw = data
        elif t.name.endswith("_K"):  # any bytes are a valid block; the scales must be finite
            block, size = gguf.GGML_QUANT_SIZES[t]
            raw = rng.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
            scale = rng.uniform(-2, 2, (rows, columns // block, 2)).astype(np.float16).view(np.uint8)
            where = slice(size - 2, size) if t == types.Q6_K else slice(0, 4)
            raw[:, :, where] = scale[:, :, : (2 if t == types.Q6_K else 4)]
            raw = raw.reshape(rows, -1)
        else:
            raw = gguf.quants.quantize(data, t)
        back = gguf.quants.dequantize(raw, t).astype(np.float32).reshape(rows, columns)
        writer.add_tensor(name, raw, raw_dtype=None if t == types.F32 else t)
        writer.add_tensor(name + ".expected", back)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- a tiny model, as GGUF and as a Hugging Face folder ----

def permute(w, heads):  # as the converters of llama-architecture files do
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def tiny():
    rng = np.random.default_rng(2)
    hidden, layers, heads, kv, dim, ffn = 8, 2, 4, 2, 6, 12
    chars = sorted(gguf_alphabet())
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("\u0120", "hello"), ("\u0120", "\u0120")]
    specials = ["<|begin|>", "<|end|>"]
    spelled = specials + chars + ["".join(m) for m in merges]
    vocab = {t: i for i, t in enumerate(spelled)}
    n = len(spelled)
    t = {}

    def make(name, *shape):
        t[name] = rng.standard_normal(shape).astype(np.float32)

    make("model.embed_tokens.weight", n, hidden)
    make("lm_head.weight", n, hidden)
    make("model.norm.weight", hidden)
    for i in range(layers):
        p = f"model.layers.{i}."
        make(p + "input_layernorm.weight", hidden)
        make(p + "post_attention_layernorm.weight", hidden)
        make(p + "self_attn.q_proj.weight", heads * dim, hidden)
        make(p + "self_attn.k_proj.weight", kv * dim, hidden)
        make(p + "self_attn.v_proj.weight", kv * dim, hidden)
        make(p + "self_attn.o_proj.weight", hidden, heads * dim)
        make(p + "self_attn.q_proj.bias", heads * dim)
        make(p + "self_attn.k_proj.bias", kv * dim)
        make(p + "self_attn.v_proj.bias", kv * dim)
        make(p + "self_attn.o_proj.bias", hidden)
        make(p + "mlp.gate_proj.weight", ffn, hidden)
        make(p + "mlp.up_proj.weight", ffn, hidden)
        make(p + "mlp.down_proj.weight", hidden, ffn)
    short = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    template = (HERE / "fixtures/chat/smollm2.jinja").read_text()
    w = gguf.GGUFWriter(OUT / "tiny.gguf", "llama")
    w.add_name("tiny")
    w.add_block_count(layers)
    w.add_context_length(128)
    w.add_embedding_length(hidden)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_key_length(dim)
    w.add_value_length(dim)
    w.add_rope_dimension_count(dim)
    w.add_rope_freq_base(5000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(spelled)
    w.add_token_types([3 if s in specials else 1 for s in spelled])
    w.add_token_merges([" ".join(m) for m in merges])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    w.add_add_bos_token(True)
    w.add_chat_template(template)
    for name, value in t.items():
        stem, suffix = name.rsplit(".", 1)
        if "q_proj" in name:
            value = permute(value, heads)
        if "k_proj" in name:
            value = permute(value, kv)
        if stem.startswith("model.layers."):
            _, _, i, rest = stem.split(".", 3)
            w.add_tensor(f"blk.{i}.{short[rest]}.{suffix}", value)
        else:
            w.add_tensor(f"{short[stem]}.{suffix}", value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

    folder = OUT / "tiny_hf"
    folder.mkdir(exist_ok=True)
    names = sorted(t)
    shards = {f"model-0000{k + 1}-of-00002.safetensors": names[k::2] for k in range(2)}
    for file, own in shards.items():
        save_file({k: t[k] for k in own}, folder / file)
    put = lambda name, value: (folder / name).write_text(json.dumps(value, indent=1) + "\n")
    put("model.safetensors.index.json",
        {"metadata": {}, "weight_map": {k: file for file, own in shards.items() for k in own}})
    put("config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
                        "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
                        "num_key_value_heads": kv, "head_dim": dim, "vocab_size": n, "rms_norm_eps": 1e-5,
                        "rope_theta": 5000.0, "max_position_embeddings": 128, "hidden_act": "silu",
                        "attention_bias": True, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
                        "rope_scaling": None, "_name_or_path": "tiny"})
    put("generation_config.json", {"eos_token_id": [1]})
    put("tokenizer_config.json", {"bos_token": {"content": "<|begin|>"}, "eos_token": "<|end|>",
                                  "chat_template": [{"name": "default", "template": template}]})
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    tok.save(str(folder / "tokenizer.json"), pretty=False)


def gguf_alphabet():
    return pre_tokenizers.ByteLevel.alphabet()


# ---- tokenizers ----

def awkward(rng, specials, n):
    pick = rng.choice
    letters = lambda a, b, k: "".join(chr(rng.randrange(a, b)) for _ in range(rng.randrange(1, k)))
    anything = lambda top: "".join(chr(c) for c in [rng.randrange(top) for _ in range(rng.randrange(1, 5))]
                                   if not 0xD800 <= c <= 0xDFFF)
    pools = [
        lambda: letters(32, 127, 12),
        lambda: pick([" ", "  ", "\n", "\n\n", "\t", "\r\n", "   \n ", " \n", "\u00a0", "\u3000", "\u2028", "\x85", "\u180e",
                      "\u200b", "\x1c", "\x0b", "\u2009 ", "\u202f"]) * rng.randrange(1, 4),
        lambda: str(rng.randrange(0, 10 ** rng.randrange(1, 12))),
        lambda: pick(["'s", "'S", "'ll", "'LL", "'Re", "'t", "'\u017f", "'d", "'M", "'ve", "\u2019s"]),
        lambda: pick(specials),
        lambda: pick(specials)[:-1],
        lambda: letters(0x80, 0x800, 5), lambda: letters(0x300, 0x370, 4), lambda: letters(0x900, 0xE00, 5),
        lambda: letters(0x4E00, 0x9FFF, 6), lambda: letters(0xAC00, 0xD7A4, 4), lambda: letters(0x1F300, 0x1FB00, 4),
        lambda: anything(0x110000), lambda: anything(0x10000),
        lambda: pick(["the", "quick", "Hello", "world", "hello", "def f(x):\n    return x\n", "for (int i=0;i<n;++i) {",
                      "http://a.b/c?d=e", "e\u0301", "\ufb01", "\u0130", "\u00df", "\u1e9b\u0323", "\u0958", "\u00bd",
                      "\u00b2", "\u2167", "\u0663", "\u0967", "\u32bf", "\u1c89", "\U00031350", "\U00010d40",
                      "\u0345\u0301", "\u1100\u1161\u11a8", "\u212b", "#include <x>\n", "a" * rng.randrange(1, 60)]),
        lambda: pick(list(".,;:!?()[]{}<>|@#$%^&*-_=+/\\~`\"")) * rng.randrange(1, 6),
    ]
    texts = ["", " ", "\n", "a", "  a", "\u180ea \u180e b"]
    while len(texts) < n:
        texts.append("".join(pick(pools)() + (" " if rng.random() < 0.4 else "") for _ in range(rng.randrange(1, 14))))
    return texts


def smollm(path):
    fields = gguf.GGUFReader(path).fields
    tokens, merges, types = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "merges", "token_type"))
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    specials = [t for t, y in zip(tokens, types) if y == 3]
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    texts = awkward(random.Random(3), specials, 400)
    dump("smollm_cases.json", [[t, tok.encode(t, add_special_tokens=False).ids] for t in texts])


def small_tokenizers():
    corpus = [(HERE / "make_text_fixtures.py").read_text(), (HERE / "fixtures/chat/llama31.jinja").read_text(),
              "hello hello world the quick brown fox 's 't 'll 1234 12 99 100 \n\n \n    return \t\t"] * 3
    cases = {}
    for kind in ("gpt2", "llama3", "qwen2"):
        tok = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
        byte_level = pre_tokenizers.ByteLevel
        if kind == "gpt2":
            tok.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=True)
        else:
            regex = Regex(LLAMA3 if kind == "llama3" else QWEN2)
            tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(regex, "isolated"),
                                                         byte_level(add_prefix_space=False, use_regex=False)])
        if kind == "qwen2":
            tok.normalizer = normalizers.NFC()
        tok.decoder = decoders.ByteLevel()
        tok.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=500, show_progress=False,
                                                            initial_alphabet=sorted(gguf_alphabet())))
        tok.add_special_tokens(["<|begin|>", "<|end|>"])
        tok.add_tokens([AddedToken("<l>", lstrip=True, normalized=False), AddedToken("<r>", rstrip=True, normalized=False),
                        AddedToken("word", single_word=True, normalized=True),
                        AddedToken("<lr>", lstrip=True, rstrip=True, normalized=True),
                        AddedToken("\u00e9", normalized=True), AddedToken("ab c", normalized=False),
                        AddedToken("ab", normalized=True)])
        if kind == "llama3":
            begin = tok.token_to_id("<|begin|>")
            tok.post_processor = processors.Sequence([
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])])
        tok.save(str(OUT / f"bpe_{kind}.json"), pretty=False)
        tok = Tokenizer.from_file(str(OUT / f"bpe_{kind}.json"))
        specials = [t.content for t in tok.get_added_tokens_decoder().values()]
        texts = awkward(random.Random(4), specials, 150)
        cases[kind] = [[t, tok.encode(t).ids] for t in texts]
    dump("bpe_cases.json", cases)


def piece_tokenizer(kind, corpus, size):
    """SentencePiece's kind: `metaspace_*` as Mistral v0.3 has it, `legacy` as Llama 2 (a normalizer)."""
    mark = "\u2581"
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement=mark, prepend_scheme="always", split=True)
    trained.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, limit_alphabet=120,
        special_tokens=specials + [f"<0x{b:02X}>" for b in range(256)]))
    model = json.loads(trained.to_str())["model"]
    tok = Tokenizer(models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], unk_token="<unk>",
                               byte_fallback=True, fuse_unk=True, ignore_merges=kind == "metaspace_first"))
    if kind == "legacy":
        tok.normalizer = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
    else:
        scheme = kind.split("_")[1]
        tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement=mark, prepend_scheme=scheme, split=scheme == "always")
    strip = [] if kind == "metaspace_never" else [decoders.Strip(content=" ", left=1, right=0)]
    tok.decoder = decoders.Sequence([decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse()] + strip)
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    tok.add_tokens([AddedToken("<l>", lstrip=True, normalized=False), AddedToken("<r>", rstrip=True, normalized=False),
                    AddedToken("word", single_word=True, normalized=True)])
    return Tokenizer.from_str(tok.to_str())


PIECES = ("legacy", "metaspace_first", "metaspace_always", "metaspace_never")


def pieces():
    """Small SentencePiece-style tokenizers, and one as a GGUF of scores."""
    corpus = [(HERE / "make_text_fixtures.py").read_text(), (HERE / "fixtures/chat/llama31.jinja").read_text()] * 3
    cases = {}
    for kind in PIECES:
        tok = piece_tokenizer(kind, corpus, 700)
        tok.save(str(OUT / f"pieces_{kind}.json"), pretty=False)
        specials = [t.content for t in tok.get_added_tokens_decoder().values()]
        cases[kind] = []
        for text in awkward(random.Random(6), specials, 80):
            ids = tok.encode(text).ids
            cases[kind].append([text, ids, tok.decode(ids, skip_special_tokens=False)])
    gguf_pieces(cases)
    dump("pieces_cases.json", cases)


def gguf_pieces(cases):
    """The `legacy` vocabulary with scores; merges as transformers' generate_merges ranks them."""
    model = json.loads((OUT / "pieces_legacy.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {t: i for i, t in enumerate(tokens)}
    special = set(tokens[:5 + 256])
    scores = [0.0 if t in special else -float(vocab[t] // 3) for t in tokens]  # ties on purpose
    w = gguf.GGUFWriter(OUT / "pieces.gguf", "llama")
    w.add_embedding_length(4)  # what the reader of weights wants to know
    w.add_head_count(1)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types([2 if i == 0 else 3 if i < 5 else 6 if i < 261 else 1 for i in range(len(tokens))])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    merges = []
    for token in tokens:
        if token not in special:
            local = [(token[:i], token[i:], scores[vocab[token]]) for i in range(1, len(token))
                     if token[:i] in vocab and token[i:] in vocab]
            merges += sorted(local, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[m[:2] for m in merges], unk_token="<unk>", byte_fallback=True,
                               fuse_unk=True))
    mark = "\u2581"
    tok.normalizer = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
    tok.decoder = decoders.Sequence([decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(content=" ", left=1, right=0)])
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in tokens[1:5]])
    cases["gguf"] = []
    for text in awkward(random.Random(7), tokens[1:5], 80):
        ids = tok.encode(text).ids
        cases["gguf"].append([text, [1] + ids, tok.decode(ids, skip_special_tokens=False)])


def normal_forms():
    rng = random.Random(5)
    nfc = normalizers.NFC()
    marks = [chr(c) for c in range(0x300, 0x370)]
    texts = ["\u1e9b\u0323", "e\u0301", "\u212b", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u0958", "a\u0323\u0307", "\u0344"]
    for _ in range(300):
        texts.append("".join(rng.choice([lambda: chr(rng.randrange(0xC0, 0x250)), lambda: rng.choice(marks), lambda: "ao ",
                                         lambda: chr(rng.randrange(0x900, 0xE00)), lambda: chr(rng.randrange(0x1100, 0x1200)),
                                         lambda: chr(rng.randrange(0x1E00, 0x2000)), lambda: chr(rng.randrange(0xF900, 0xFB50))])()
                             for _ in range(rng.randrange(1, 7))))
    dump("nfc_cases.json", [[t, nfc.normalize_str(t)] for t in texts])


# ---- chat templates ----

class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("plain"), [], [], body).set_lineno(line)

    def plain(self, caller):
        return caller()


def render(template, variables, now=False):
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    if now:
        env.globals["strftime_now"] = lambda f: datetime.datetime(2024, 7, 9).strftime(f)
    try:
        return {"out": env.from_string(template).render(**variables)}
    except Exception as error:  # whatever it is, ours must fail too
        return {"error": f"{type(error).__name__}: {error}"}


def chat():
    tool = {"type": "function", "function": {"name": "get_weather", "description": "Weather \"now\" \u00e9 <b>",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                           "required": ["city"]}}}
    call = {"id": "abcdefgh9", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "K\u00f6ln", "days": 2}}}
    text_call = {"type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}
    user = lambda c: {"role": "user", "content": c}
    assistant = lambda c, **k: {"role": "assistant", "content": c, **k}
    system = {"role": "system", "content": " You are terse. "}
    tool_reply = {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdefgh9"}
    talks = [
        [user("Hi there!")], [system, user(" trim me \n")], [user("a"), assistant("b"), user("c")],
        [system, user("weather?"), assistant("", tool_calls=[call]), tool_reply, assistant("21.5"), user("thanks \U0001f600")],
        [user("weather?"), assistant("", tool_calls=[call]), tool_reply, tool_reply],
        [user("x"), assistant("<think>\nhm\n</think>\n\nanswer"), user("y"), assistant("<think>z</think>q")],
        [user("x"), assistant(None, tool_calls=[text_call, text_call]), {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}],
        [user("x"), assistant("w", reasoning_content="because"), user("<tool_response>\n1\n</tool_response>"), assistant("z")],
        [assistant("first")], [user("a"), user("b")], [], [{"role": "other", "content": "?"}],
    ]
    options = [{"tools": None}, {"tools": [tool, tool]},
               {"tools": None, "enable_thinking": False, "date_string": "1 Jan 2025"}]
    common = {"documents": None, "bos_token": "<s>", "eos_token": "</s>"}
    cases = []
    for file in sorted((HERE / "fixtures/chat").glob("*.jinja")):
        source = file.read_text()
        for t, talk in enumerate(talks):
            for o, more in enumerate(options):
                generate, now = len(cases) % 2 == 0, len(cases) % 3 == 0
                variables = {"messages": talk, "add_generation_prompt": generate, **common, **more}
                cases.append({"file": file.name, "talk": t, "option": o, "generate": generate, "now": now,
                              **render(source, variables, now)})
    dump("chat_cases.json", {"talks": talks, "options": options, "cases": cases})
    snippets = json.loads((OUT / "jinja_snippets.json").read_text())
    variables = {"a": 3, "b": -7, "f": 2.5, "s": "Hello, w\u00f6rld\n", "e": "", "l": [3, 1, 2], "ls": ["x", "Y", "z"],
                 "d": {"k": "v", "n": None, "z": [1, {"q": True}], "items": "mine"}, "n": None, "t": True, "fa": False,
                 "messages": [user(" hi "), assistant("<think>\nx\n</think>\n\nyo"),
                              user("'q' \"dq\" \u00e9 \u4e2d \U0001f600 \x01\x7f")], "bos_token": "<s>"}
    dump("jinja_cases.json", {"variables": variables, "cases": [{"template": s, **render(s, variables)} for s in snippets]})


# ---- RoPE frequencies ----

def rope():
    """The formulas of transformers' modeling_rope_utils, in f64."""
    out = []
    for dim, base in ((64, 500000.0), (128, 10000.0), (6, 5000.0)):
        plain = [base ** (-(2 * i) / dim) for i in range(dim // 2)]
        out.append({"kind": "none", "dim": dim, "base": base, "expected": plain})
        out.append({"kind": "linear", "dim": dim, "base": base, "factor": 4.0, "expected": [f / 4 for f in plain]})
        scaled = []
        low, high, old, factor = 1.0, 4.0, 8192, 8.0
        for f in plain:
            wave = 2 * math.pi / f
            if wave < old / high:
                scaled.append(f)
            elif wave > old / low:
                scaled.append(f / factor)
            else:
                smooth = (old / wave - low) / (high - low)
                scaled.append((1 - smooth) * f / factor + smooth * f)
        out.append({"kind": "llama3", "dim": dim, "base": base, "factor": factor, "low_freq_factor": low,
                    "high_freq_factor": high, "original_max_position_embeddings": old, "expected": scaled})
        length, old, factor = 10000, 4096, 2.0
        new = base * ((factor * length / old) - (factor - 1)) ** (dim / (dim - 2))
        out.append({"kind": "dynamic", "dim": dim, "base": base, "factor": factor, "max_position": old, "kv_len": length,
                    "expected": [new ** (-(2 * i) / dim) for i in range(dim // 2)]})
        factor, old = 4.0, 4096
        where = lambda r: (dim * math.log(old / (r * 2 * math.pi))) / (2 * math.log(base))
        first, last = max(math.floor(where(32)), 0), min(math.ceil(where(1)), dim - 1)
        ramp = [min(max((i - first) / max(last - first, 0.001), 0), 1) for i in range(dim // 2)]
        out.append({"kind": "yarn", "dim": dim, "base": base, "factor": factor, "original_max_position_embeddings": old,
                    "expected": [f / factor * r + f * (1 - r) for f, r in zip(plain, ramp)]})
    dump("rope_cases.json", out)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    quants()
    tiny()
    smollm(sys.argv[1])
    small_tokenizers()
    pieces()
    normal_forms()
    chat()
    rope()
