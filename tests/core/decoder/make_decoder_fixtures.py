#!/usr/bin/env python3
"""Expected numbers of the decoder, by Hugging Face transformers in float32.

  make_decoder_fixtures.py tiny OUT                  tiny random checkpoints, one folder each, with the
                                                     logits of every row and the sum of the log-losses
  make_decoder_fixtures.py gguf MODEL.gguf OUT.json  top logits and log-loss of some texts on the weights
                                                     as the `gguf` package dequantises them

Needs torch, transformers, safetensors, tokenizers, gguf (0.17) and numpy. Nothing is downloaded.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch

TEXTS = [
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) +",
    "<|im_start|>user\nHow many legs do 3 spiders and 12 cats have together?<|im_end|>\n<|im_start|>assistant\n",
    "In 1905, Albert Einstein published four papers that changed the foundations of physics. The first of "
    "them explained the photoelectric effect; the second, Brownian motion. " * 6,
    "żółć — naïve café, Ελληνικά, 日本語 and 한국어\t\t  are   written in 2024.\n\n\n" * 5,
]

TINY = {
    "llama3_rope": ("llama", dict(tie_word_embeddings=True, rope_theta=500000.0, max_position_embeddings=512,
                                  rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                                    high_freq_factor=4.0,
                                                    original_max_position_embeddings=64))),
    "untied": ("llama", dict(tie_word_embeddings=False, rope_theta=10000.0, max_position_embeddings=256)),
    "qwen2_bias": ("qwen2", dict(tie_word_embeddings=True, rope_theta=1000000.0, max_position_embeddings=256)),
    "qwen3_norm": ("qwen3", dict(tie_word_embeddings=False, rope_theta=1000000.0, max_position_embeddings=256)),
    "linear_rope": ("llama", dict(tie_word_embeddings=True, rope_theta=10000.0, max_position_embeddings=256,
                                  rope_scaling=dict(rope_type="linear", factor=4.0))),
    "dynamic_rope": ("llama", dict(tie_word_embeddings=True, rope_theta=10000.0, max_position_embeddings=64,
                                   rope_scaling=dict(rope_type="dynamic", factor=2.0))),
    "yarn_rope": ("qwen2", dict(tie_word_embeddings=True, rope_theta=1000000.0, max_position_embeddings=256,
                                rope_scaling=dict(rope_type="yarn", factor=4.0,
                                                  original_max_position_embeddings=64))),
    "yarn_qwen3": ("qwen3", dict(tie_word_embeddings=True, rope_theta=1000000.0, max_position_embeddings=256,
                                 rope_scaling=dict(rope_type="yarn", factor=2.0,
                                                   original_max_position_embeddings=128))),
    "mistral_window": ("mistral", dict(tie_word_embeddings=False, rope_theta=10000.0, max_position_embeddings=256,
                                       sliding_window=48)),
    "mistral_full": ("mistral", dict(tie_word_embeddings=False, rope_theta=1000000.0, max_position_embeddings=256,
                                     sliding_window=None)),
    "qwen2_window": ("qwen2", dict(tie_word_embeddings=True, rope_theta=1000000.0, max_position_embeddings=256,
                                   use_sliding_window=True, sliding_window=48, max_window_layers=1)),
    "llama_bias": ("llama", dict(tie_word_embeddings=True, rope_theta=10000.0, max_position_embeddings=256,
                                 attention_bias=True, mlp_bias=True)),
}
# What lies in the file where it is not one file of bf16: its type, and that there are shards with an index.
FILES = {"linear_rope": (torch.float16, False), "mistral_full": (torch.float16, True),
         "yarn_qwen3": (torch.float32, True)}


def tiny(out):
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    for seed, (name, (kind, extra)) in enumerate(TINY.items()):
        torch.manual_seed(seed)
        plain = dict(extra)
        config = dict(model_type=kind, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
                      num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=96,
                      rms_norm_eps=1e-5, hidden_act="silu", bos_token_id=0, eos_token_id=1, **plain)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        architecture = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
        (folder / "config.json").write_text(
            json.dumps(dict(architectures=[architecture[kind]], **config), indent=1) + "\n")
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager")
        model = model.float().eval()
        dtype, sharded = FILES.get(name, (torch.bfloat16, False))
        with torch.no_grad():
            for key, p in model.named_parameters():
                p.copy_((1 + 0.2 * torch.randn_like(p) if "norm" in key else
                         0.3 * torch.randn_like(p)).to(dtype).float())
        state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()
                 if not (k == "lm_head.weight" and config["tie_word_embeddings"])}
        assert all(torch.equal(v.float(), model.state_dict()[k]) for k, v in state.items())
        if sharded:
            shards = {f"model-0000{i + 1}-of-00002.safetensors": sorted(state)[i::2] for i in range(2)}
            for file, keys in shards.items():
                save_file({k: state[k] for k in keys}, folder / file, metadata={"format": "pt"})
            index = dict(metadata={}, weight_map={k: file for file, keys in shards.items() for k in keys})
            (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
        else:
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        n = 200
        ids = torch.randint(0, 96, (1, n), generator=torch.Generator().manual_seed(100 + seed))
        with torch.no_grad():
            # By steps: a prompt, then one token at a time on the cache of it. (First: the angles of `dynamic`
            # RoPE stay in the model, and are those of the longest sequence that it has seen.)
            prompt = 100
            cache = model(ids[:, :prompt], use_cache=True).past_key_values
            steps = [model(ids[:, i:i + 1], past_key_values=cache, use_cache=True).logits[0, 0]
                     for i in range(prompt, n)]
            logits = model(ids).logits[0]
        nll = torch.nn.functional.cross_entropy(logits[:-1].double(), ids[0, 1:], reduction="sum").item()
        rows = [0, 1, 37, 130, n - 1]
        expected = dict(ids=ids[0].tolist(), rows=rows, nll=nll,
                        logits=[[float(f"{x:.7g}") for x in logits[r].tolist()] for r in rows],
                        prompt=prompt, steps=[100, 101, 163, n - 1],
                        step_logits=[[float(f"{x:.7g}") for x in steps[r - prompt].tolist()]
                                     for r in (100, 101, 163, n - 1)])
        (folder / "expected.json").write_text(json.dumps(expected) + "\n")
        print(name, "nll", nll / (n - 1), "max logit", logits.abs().max().item())


def unpermute(w, heads):
    """(head, i, half) rows of the file -> (head, half, i) of rotate-half."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def load_gguf(path):
    """The model in float32 and its tokenizer: SmolLM's of the Llama architecture, or Qwen2's."""
    import gguf
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    qwen = arch == "qwen2"
    value = lambda key: reader.fields[f"{arch}." + key].contents()
    heads, kv = value("attention.head_count"), value("attention.head_count_kv")
    weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    config = (Qwen2Config if qwen else LlamaConfig)(
        hidden_size=value("embedding_length"), intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"), num_attention_heads=heads, num_key_value_heads=kv,
        vocab_size=weights["token_embd.weight"].shape[0], rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_theta=value("rope.freq_base"), max_position_embeddings=value("context_length"),
        tie_word_embeddings=True)
    state = {"model.embed_tokens.weight": weights["token_embd.weight"],
             "model.norm.weight": weights["output_norm.weight"]}
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            w = weights[f"blk.{layer}.{ours}.weight"]
            if ours in ("attn_q", "attn_k") and not qwen:
                w = unpermute(w, heads if ours == "attn_q" else kv)
            state[f"model.layers.{layer}.{theirs}.weight"] = w
            if qwen and ours in ("attn_q", "attn_k", "attn_v"):
                state[f"model.layers.{layer}.{theirs}.bias"] = weights[f"blk.{layer}.{ours}.bias"]
    if "output.weight" in weights:
        config.tie_word_embeddings = False
        state["lm_head.weight"] = weights["output.weight"]
    model = (Qwen2ForCausalLM if qwen else LlamaForCausalLM)(config)
    state = {k: torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for k, v in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    model.tie_weights()

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    steps = [pre_tokenizers.Digits(individual_digits=True)]
    if qwen:
        tokenizer.normalizer = normalizers.NFC()
        steps = [pre_tokenizers.Split(Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
            r"|\s+(?!\S)|\s+"), "isolated")]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not qwen))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, kinds) if kind == 3])
    return model.float().eval(), tokenizer


def embedded(path, out):
    model, tokenizer = load_gguf(path)
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        nll = torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:]), reduction="sum").item()
        top = torch.topk(logits[-1], 10)
        greedy = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0)
        greedy = greedy[0, len(ids):].tolist()
        cases.append(dict(text=text, ids=ids, nll=nll, greedy=greedy,
                          top=[dict(id=i, logit=round(x, 5)) for i, x in zip(top.indices.tolist(), top.values.tolist())]))
        print(len(ids), "tokens, nll", nll / (len(ids) - 1), repr(tokenizer.decode(greedy)))
    out.write_text(json.dumps(dict(model=Path(path).name, cases=cases), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "tiny":
        tiny(Path(sys.argv[2]))
    elif len(sys.argv) == 4 and sys.argv[1] == "gguf":
        embedded(sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(__doc__)
