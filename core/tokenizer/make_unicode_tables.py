#!/usr/bin/env python3
"""Writes unicode_tables.inc: the character classes and NFC data that `tokenizers` works with, asked of the
library itself, so that ids agree on code points younger than PCRE2's Unicode. Needs: pip install tokenizers.

    python3 core/tokenizer/make_unicode_tables.py > core/tokenizer/unicode_tables.inc
"""
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

ALL = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def onig(pattern):
    """Code points that Oniguruma's class holds."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for i in range(0, len(ALL), 8192):
        part = ALL[i : i + 8192]
        kept = set()
        for piece, _ in split.pre_tokenize_str("".join(map(chr, part))):
            kept.update(map(ord, piece))
        found.update(c for c in part if c not in kept)
    return found


def rust_numeric():
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {c for c in ALL if len(digits.pre_tokenize_str("x" + chr(c))) == 2}


def rust_word():
    tok = Tokenizer(models.BPE(vocab={"x": 0, "@": 1}, merges=[]))
    tok.add_tokens([AddedToken("@@", single_word=True, normalized=False)])
    inside = tok.token_to_id("@@")
    return {c for c in ALL if chr(c) != "@" and inside not in tok.encode(chr(c) + "@@").ids}


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def emit(name, what, rows, kind):
    print(f"\n// {what}\nconstexpr {kind} {name}[] = {{")
    line = "   "
    for row in rows:
        text = " {" + ", ".join(f"0x{v:x}" for v in row) + "},"
        if len(line) + len(text) > 100:
            print(line)
            line = "   "
        line += text
    print(line + "\n};")


def category(letter):
    return {c for c in ALL if unicodedata.category(chr(c))[0] == letter}


nfc, nfd = normalizers.NFC(), normalizers.NFD()
decomposed = {}
for c in ALL:
    full = nfd.normalize_str(chr(c))
    if full != chr(c) and not 0xAC00 <= c <= 0xD7A3:
        decomposed[c] = [ord(x) for x in full]
pairs = []
for c in decomposed:
    one = unicodedata.decomposition(chr(c)).split()
    if len(one) == 2 and nfc.normalize_str(chr(int(one[0], 16)) + chr(int(one[1], 16))) == chr(c):
        pairs.append((int(one[0], 16), int(one[1], 16), c))
classes = []
for c in ALL:
    ccc = unicodedata.combining(chr(c))
    known = ccc >= 240 or nfd.normalize_str("a\u0345" + chr(c)) != "a\u0345" + chr(c)
    if ccc and known:
        classes.append((c, ccc))
merged = []
for c, ccc in classes:
    if merged and merged[-1][1] == c - 1 and merged[-1][2] == ccc:
        merged[-1][1] = c
    else:
        merged.append([c, c, ccc])

print(f"// Made by make_unicode_tables.py with tokenizers {tokenizers.__version__}; not written by hand.")
emit("kNewLetters", r"\p{L} of newer Unicode than 14.", ranges(onig(r"\p{L}") - category("L")), "Range")
emit("kNewNumbers", r"\p{N} of newer Unicode than 14.", ranges(onig(r"\p{N}") - category("N")), "Range")
emit("kNumeric", "What Digits splits at (Nd, Nl, No).", ranges(rust_numeric()), "Range")
emit("kWord", r"\w beside single_word tokens.", ranges(rust_word()), "Range")
emit("kCombining", "First, last, canonical combining class.", merged, "Combining")
emit("kDecomposed", "Code point, full canonical decomposition (0: none).",
     [(c, *(d + [0] * (4 - len(d)))) for c, d in sorted(decomposed.items())], "Decomposed")
emit("kComposed", "First, second, their composition.", sorted(pairs), "Composed")
