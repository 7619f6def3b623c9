#!/usr/bin/env python3
"""Pairs of (prediction, answer) with the verdicts of the Python package math-verify.

Golds: MATH-500, AIME, AMC 2023, GSM8K and the list below. Predictions: (a) other forms of the gold,
(b) near misses, (c) golds of other problems, (d) all of them inside model-like responses. A pair is
{"prediction", "answer", "equal", "class"}; a bare prediction is given to math-verify inside \\boxed{}.
    python3 tests/eval/make_math_verify_pairs.py --data ../shared/data --count 4000 --seed 1 > pairs.jsonl
    python3 tests/eval/make_math_verify_pairs.py --data ../shared/data --count 600 --seed 7 \\
        > tests/eval/fixtures/math_verify_pairs.jsonl          (the committed fixture)
Needs: pip install math-verify==0.9.0 (with latex2sympy2_extended 1.11.0 and sympy 1.14.0).
"""
import argparse
import importlib.metadata
import json
import pathlib
import random
import re
import sys

import sympy
from latex2sympy2_extended import latex2sympy
from math_verify import parse, verify

EXTRA = r"""
3 \pm 2\sqrt{5} | \pm 4 | \pm \frac{1}{2} | \infty | -\infty | (-\infty,-3)\cup(2,\infty) | [-1,1) | [0,2\pi)
(0,1)\cup(1,2] | \{1,2,3\} | \{-4, 0, 7\} | \{\frac12, 3\} | \emptyset | x \ge 5 | x < -2 | -3 < x < 7 | 0 \le t \le 1
a > b | y \neq 0 | 25\% | 12.5\% | 0.3\% | 3.5 \times 10^{-4} | 6.02\times 10^{23} | 1.6 \cdot 10^5 | 2^{100} | 5^{-3}
1,000,000 | 12,345.67 | 7! | \binom{10}{3} | \binom{8}{4} | \log_2 10 | \ln 2 | \log 5 | e^2 | e^{-1} | 3e | e^{i\pi/4}
2+3i | -i | \frac{1+i}{2} | i\sqrt{3} | \sin 20^\circ | \cos\frac{\pi}{7} | \tan^{-1}\frac{1}{2} | \arctan 3 | \sin x\cos x
x^2+2x+1 | (x-3)(x+2) | 2x^3-x | \frac{x+1}{x-1} | \frac{1}{x}+\frac{1}{y} | a^2+b^2-2ab\cos C | n(n+1)/2 | \frac{n(n+1)}{2}
2^n-1 | 3^{n+1} | x^{2/3} | \sqrt{x+1} | \sqrt[3]{7} | 2\sqrt[3]{4} | \sqrt{2}+\sqrt{3} | \frac{1+\sqrt{5}}{2} | \sqrt{2+\sqrt{3}}
(1,2,3) | (-1,\frac{2}{3}) | (x,y)=(2,3) | (3,-4), (5,6) | (0,0),(1,1) | x=2,y=3 | x=1 \text{ or } x=-3 | f(x)=3x-2 | y=-\frac12x+4
2x+3y=6 | x^2+y^2=25 | \begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{bmatrix}0&-1\\1&0\end{bmatrix} | \begin{pmatrix}3\\-2\end{pmatrix}
\text{(A)} | \text{B} | \text{Yes} | \text{no} | \text{Tuesday} | \text{true} | \text{increasing} | \text{red} | D | C
1101_2 | 7A_{16} | 345_6 | 60^\circ | 22.5^\circ | 12\text{ cm} | 30\text{ km/h} | 5\text{ m}^2 | 8\text{ hours} | \$4.50 | 3\frac{1}{2} | 2\frac{3}{8}
-1\frac{1}{4} | \frac{7}{3}\pi | \frac{\pi^2}{6} | 4\pi\sqrt{2} | \lfloor x \rfloor | |x-1| | 10:30 | 3:4 | k=\frac{3}{4} | S_5 | a_n=2n+1 | 0 | 1 | -7 | 100 | 0.125 | 2.75 | -0.5
\left[-\frac{\pi}{2},\frac{\pi}{2}\right] | \mathbb{R} | 5\text{ and }7 | \frac{-b\pm\sqrt{b^2-4ac}}{2a} | 1-\frac{1}{e} | 2\ln 3 | x\in(0,4) | \frac{\sqrt{6}-\sqrt{2}}{4} | 17\text{ minutes}
"""


def golds(data):
    def rows(name):
        return [json.loads(line) for line in open(data / name, encoding="utf-8")]
    math = [str(r["answer"]) for r in rows("math/math500_test.jsonl")]
    hard = [g for g in math if not re.fullmatch(r"-?\d+", g)]
    numbers = [str(r["answer"]) for n in ("aime24", "aime25") for r in rows(f"math/{n}.jsonl")]
    numbers += [str(int(r["answer"])) if float(r["answer"]).is_integer() else str(r["answer"]) for r in rows("math/amc23.jsonl")]
    school = [r["answer"].rsplit("####", 1)[1].strip() for r in rows("gsm8k/test.jsonl")]
    extra = [g.strip() for g in re.split(r" \| |\n", EXTRA) if g.strip()]
    return [(math, 3), (hard, 4), (numbers, 1), (school, 1), (extra, 5)]


def expression(gold):
    try:
        e = latex2sympy(gold, is_real=None)
        return e if isinstance(e, sympy.Expr) else None
    except Exception:
        return None


def integer(g):
    text = re.sub(r"[,$\\!{} ]", "", g)
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def fraction(g):
    m = re.fullmatch(r"\s*(-?)\\[dt]?frac\s*\{(-?\d+)\}\{(\d+)\}\s*", g)
    return (int(m[2]) * (-1 if m[1] else 1), int(m[3])) if m else None


def split_list(g):
    parts, depth, now = [], 0, ""
    for c in g:
        depth += c in "([{"
        depth -= c in ")]}"
        if c == "," and depth == 0:
            parts.append(now)
            now = ""
        else:
            now += c
    return parts + [now]


def rewrites(g, rng):
    out = [g, g.replace(" ", ""), g.replace(",", ", "), f"{g}.", f"\\mathbf{{{g}}}" if len(g) < 8 else g]
    out.append(g.replace("\\frac", "\\dfrac"))
    out.append(g.replace("\\frac", "\\tfrac"))
    out.append(g.replace("(", "\\left(").replace(")", "\\right)") if "\\left" not in g else g.replace("\\left", "").replace("\\right", ""))
    out.append(re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", g))
    out.append(re.sub(r"\\frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", g))
    out.append(re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", g))
    out.append(re.sub(r"\\sqrt\{(\w+)\}", r"\1^{1/2}", g))
    out.append(re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", g))
    out.append(g.replace("\\pi", "\u03c0"))
    out.append(g.replace("^\\circ", rng.choice(["^{\\circ}", "", "\\text{ degrees}", " \\text{ deg}", "\u00b0", "\\degree"])))
    out.append(re.sub(r"\\text\{\(?([^(){}]*)\)?\}", lambda m: rng.choice([m[1], f"\\text{{{m[1]}}}", f"\\textbf{{{m[1]}}}", f"\\mathrm{{{m[1]}}}", f"({m[1]})", m[1].lower(), m[1].strip().upper(), f"\\text{{ {m[1]} }}"]), g))
    out.append(g.replace("\\le ", "\\leq ").replace("\\ge ", "\\geq "))
    out.append(g.replace("\\cup", "\u222a").replace("\\infty", "\u221e"))
    out.append(g.replace("pmatrix", rng.choice(["bmatrix", "matrix", "vmatrix"])).replace("bmatrix", rng.choice(["pmatrix", "bmatrix"])))
    out.append(g.replace("x \\in ", "").replace("y = ", "").replace("x=", ""))
    out.append(rng.choice(["x = ", "n=", "y=", "k = ", "f(x)=", "S = ", "A="]) + g)
    out.append(g + rng.choice(["\\text{ cm}", "\\text{ units}", "\\%", "\\,\\text{cm}^2", " \\text{ hours}", "\\text{ dollars}", " meters", "^\\circ", "\\mathrm{~km}", " \\text{ square units}"]))
    out.append("\\$" + g)
    out.append("{" + g + "}")
    out.append("\\displaystyle " + g)
    m = re.fullmatch(r"(.*\w)_\{?(\d+)\}?", g)
    if m:
        out += [m[1], f"{m[1]}_{{{m[2]}}}", f"{m[1]}_{m[2]}", f"({m[1]})_{{{m[2]}}}", f"{m[1]}_{{\\text{{{m[2]}}}}}"]
    n = integer(g)
    if n is not None:
        out += [f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", "\\,"), f"{n}.0", f"{n}.00", f"+{n}", f"0{n}" if n > 0 else g,
                f"\\frac{{{2 * n}}}{{2}}", f"\\sqrt{{{n * n}}}", f"{n - 3}+3", f"2 \\cdot {n / 2:g}", f"{n} \\times 1", f"{n}/1", f"{n}^1", f"\\frac{{{n}}}{{1}}",
                f"{n - 1} + 1 = {n}", f"\\text{{{n}}}", f"{n}!/({n - 1})!" if 0 < n < 9 else g, f"\\{{{n}\\}}", f"({n})", f"[{n}]"]
        if n and n % 100 == 0:
            out += [f"{n // 100} \\times 10^2", f"{n // 100} \\cdot 10^{{2}}", f"{n // 100}e2"]
    f = fraction(g)
    if f:
        p, q = f
        out += [f"{p}/{q}", f"\\frac{{{3 * p}}}{{{3 * q}}}", f"{p / q:.6f}", f"{p / q:.10f}", f"{p / q:g}", f"{p} \\div {q}", f"{p}:{q}", f"-\\frac{{{-p}}}{{{q}}}",
                f"\\frac{{{-p}}}{{{-q}}}", f"{p}\\cdot\\frac{{1}}{{{q}}}", f"\\frac{{{p}}}{{{q}}}\\approx {p / q:.3f}", f"{100 * p / q:g}\\%", f"{p} / {q}", f"{p} \\over {q}", f"x=\\frac{{{p}}}{{{q}}}"]
        if abs(p) > q > 1:
            w, r = divmod(abs(p), q)
            sign = "-" if p < 0 else ""
            out += [f"{sign}{w}\\frac{{{r}}}{{{q}}}", f"{sign}{w} {r}/{q}", f"{sign}{w}\\tfrac{{{r}}}{{{q}}}"]
    e = expression(g)
    if e is not None:
        for act in (sympy.expand, sympy.factor, sympy.together, sympy.simplify, sympy.radsimp, lambda v: sympy.expand(v * 6) / 6, lambda v: v * sympy.Rational(7, 7),
                    lambda v: sympy.Add(v, 1, -1, evaluate=False), lambda v: sympy.Mul(2, v, sympy.Rational(1, 2), evaluate=False), sympy.apart, sympy.expand_trig):
            try:
                out.append(sympy.latex(act(e)))
            except Exception:
                pass
        try:
            value = complex(e.evalf())
            if value.imag == 0 and abs(value.real) < 1e9:
                out += [f"{value.real:.4f}", f"{value.real:.7f}", f"{value.real:.12f}"]
        except Exception:
            pass
    terms = re.fullmatch(r"([\w^\\ {}]+) ([+-]) ([\w^\\ {}]+)", g)
    if terms:
        out.append(f"{terms[3]} + {terms[1]}" if terms[2] == "+" else f"-{terms[3]} + {terms[1]}")
    if "=" in g and g.count("=") == 1 and "begin" not in g:
        left, right = g.split("=")
        out += [f"{right} = {left}", right, f"{left} - ({right}) = 0", f"2({left}) = 2({right})", f"{left}={right}={right}"]
    inside = re.fullmatch(r"\\?(?:left)?\s*([(\[])(.*),(.*?)\\?(?:right)?([)\]])", g)
    if inside and g.count(",") == 1 and "cup" not in g:
        a, b = inside[2].strip(), inside[3].strip()
        l, r = ("<" if inside[1] == "(" else "\\le"), ("<" if inside[4] == ")" else "\\le")
        out += [f"{a} {l} x {r} {b}", f"x \\in {inside[1]}{a},{b}{inside[4]}", f"({a};{b})", f"\\left{inside[1]} {a} , {b} \\right{inside[4]}", f"{a}, {b}"]
        if b == "\\infty":
            out += ["x " + (">" if inside[1] == "(" else "\\ge") + " " + a, f"{inside[1]}{a}, +\\infty)"]
    if "\\cup" in g:
        out.append(" \\cup ".join(p.strip() for p in reversed(g.split("\\cup"))))
    if "\\pm" in g and "{" not in g[: g.find("\\pm")]:
        out += [g.replace("\\pm", "+") + "," + g.replace("\\pm", "-"), g.replace("\\pm", "-") + ", " + g.replace("\\pm", "+"), "x=" + g]
    parts = split_list(g)
    if 1 < len(parts) < 6 and "begin" not in g:
        p = [x.strip() for x in parts]
        out += [", ".join(reversed(p)), "\\{" + ", ".join(p) + "\\}", " \\text{ and } ".join(p), " and ".join(p), "; ".join(p), " \\text{ or } ".join(p), "(" + ",".join(p) + ")", ",".join(p)]
    if g.startswith("\\{"):
        p = split_list(g[2:-2])
        out += ["\\{" + ",".join(reversed(p)) + "\\}", ",".join(p), "\\left\\{" + ",".join(p) + "\\right\\}", "\\lbrace " + ",".join(p) + " \\rbrace"]
    return out


def misses(g, rng):
    out = []
    spots = [m.span() for m in re.finditer(r"\d+", g)]
    if spots:
        for _ in range(4):
            a, b = rng.choice(spots)
            v = int(g[a:b])
            out.append(g[:a] + str(rng.choice([v + 1, max(v - 1, 0), v * 10, v + 10, 2 * v, v * 100])) + g[b:])
        a, b = rng.choice(spots)
        out.append(g[:a] + g[a:b][::-1] + g[b:])
    out.append("-" + g if not g.startswith("-") else g[1:])
    out.append(g.replace("+", "-", 1) if "+" in g else g + "+1")
    out.append(g.replace("sqrt", "sqrt[3]", 1))
    out.append(g.replace("\\pi", "", 1) or "1")
    out.append(g.replace("x", "y"))
    out.append(g.replace("[", "(").replace("]", ")"))
    out.append(g.replace("(", "[", 1))
    out.append(g.replace("\\le", "<").replace("\\ge", ">"))
    out.append(g.replace("<", ">"))
    out.append(g.replace("\\cup", "\\cap"))
    out.append(g.replace("\\pm", rng.choice(["+", "-", "\\mp"])))
    out.append(g.replace("i", "", 1) if re.search(r"\di\b", g) else g + ", 0")
    out.append(g.replace("\\infty", "100"))
    out.append(g.replace("\\sin", "\\cos").replace("^2", "^3"))
    out.append(g + "x")
    out.append("2" + g)
    parts = split_list(g)
    if len(parts) > 1:
        out += [",".join(parts[:-1]), ",".join(parts + ["5"]), ",".join(parts[1:] + parts[:1])]
    inside = re.fullmatch(r"(\\left)?\s*([(\[])(.*),(.*?)(\\right)?([)\]])", g)
    if inside:
        out.append(f"{inside[2]}{inside[4]},{inside[3]}{inside[6]}")
    f = fraction(g)
    if f:
        p, q = f
        out += [f"\\frac{{{q}}}{{{abs(p) or 1}}}", f"{p / q:.2f}", f"{p / q:.4f}", f"\\frac{{{p}}}{{{q + 1}}}", f"{p / q + 2e-6:.7f}", f"{p / q + 2e-7:.8f}"]
    if "\\text" in g:
        out += [rng.choice(["west", "odd", "B", "D", "circle", "None", "\\text{(D)}", "\\text{no}", "A"]), g + "x"]
    return out


def response(p, g, rng):
    kinds = [
        lambda: f"We compute step by step.\n\nFirst, $2+2=4$.\n\nSo the final answer is $\\boxed{{{p}}}$.",
        lambda: f"Let $x = {rng.randint(2, 99)}$. After simplifying we get\n\\[\\boxed{{{p}}}\\]",
        lambda: f"Therefore, the answer is $\\boxed{{{p}}}$. I hope it is correct.",
        lambda: f"\\boxed{{{p}}}",
        lambda: f"<think>\nMaybe \\boxed{{{rng.randint(1, 50)}}}? Let me check again.\n</think>\n\nThe result is $$\\boxed{{{p}}}$$",
        lambda: f"First I thought \\boxed{{{rng.randint(1, 50)}}}, but this fails because of the condition given in the second sentence of the problem. So: \\boxed{{{p}}}.",
        lambda: f"The answer is ${p}$.",
        lambda: f"Therefore, the final answer is: ${p}$. I hope it is correct.",
        lambda: f"So we get $a = 3$ and thus the answer is ${p}$.",
        lambda: f"**Answer:** ${p}$",
        lambda: f"Adding up:\n\\[ 3 + 4 = 7 \\]\nHence the value is \\({p}\\).",
        lambda: f"The final answer is $\\boxed{{{p}}}$, since ${rng.randint(2, 30)} > 1$.",
    ]
    if re.fullmatch(r"-?[\d.,/]+%?", p):
        kinds += [lambda: f"He has 3 apples and 4 pears. The answer is {p}.", lambda: f"... so she pays ${p}.", lambda: f"#### {p}",
                  lambda: f"Step 1: 5 * 3 = 15\nStep 2: 15 - 2 = {p}\nThe answer is {p} dollars.", lambda: f"In total, that makes {p} eggs.",
                  lambda: f"**Answer: {p}**", lambda: f"Final Answer: {p}"]
    weights = [3, 2, 2, 6, 1, 1, 2, 1, 1, 1, 1, 1] + [2] * (len(kinds) - 12)
    return rng.choices(kinds, weights)[0]()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=pathlib.Path, required=True)
    options.add_argument("--count", type=int, required=True)
    options.add_argument("--seed", type=int, required=True)
    args = options.parse_args()
    rng = random.Random(args.seed)
    pools = golds(args.data)
    names = [v[0] for v in pools]
    everything = [g for pool in names for g in set(pool)]
    print(json.dumps({"versions": {n: importlib.metadata.version(n) for n in ("math-verify", "latex2sympy2_extended", "sympy")},
                      "seed": args.seed}), flush=True)
    seen = set()
    while len(seen) < args.count:
        gold = rng.choice(rng.choices(names, [v[1] for v in pools])[0])
        kind = rng.choices(["form", "miss", "other"], [5, 3, 1])[0]
        if kind == "form":
            prediction = rng.choice(rewrites(gold, rng))
        elif kind == "miss":
            prediction = rng.choice(misses(gold, rng))
        else:
            prediction = rng.choice(everything)
        bare = rng.random() < 0.3
        text = prediction if bare else response(prediction, gold, rng)
        if not prediction.strip() or (text, gold) in seen or (bare and text.endswith(".")):
            continue  # a full stop after a bare answer is a sentence's, not part of a box
        seen.add((text, gold))
        try:
            verdict = verify(parse(f"${gold}$"), parse(f"\\boxed{{{text}}}" if bare else text))
        except Exception as error:  # math-verify itself fails: no verdict
            print(f"math-verify: {error!r} on {text!r} | {gold!r}", file=sys.stderr)
            continue
        print(json.dumps({"prediction": text, "answer": gold, "equal": bool(verdict), "class": kind + ("" if not bare else "-bare")}, ensure_ascii=False), flush=True)


main()
