#!/usr/bin/env python3
"""Writes tests/eval/fixtures/math_pairs.jsonl: pairs of prediction and answer with the verdict expected of us.

The pairs are our own. Where the package math-verify is at hand, its verdicts are printed to stderr beside
ours, so that a difference is a decision and not an accident:
    python3 tests/eval/make_math_pairs.py > tests/eval/fixtures/math_pairs.jsonl
"""
import json
import sys

EQUAL = r"""
100\% | 1
\pi \approx 3.14 | \pi
2\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}2\\4\end{pmatrix}
\mathbb{R} | (-\infty,\infty)
3:4 | \frac{3}{4}
3 \over 4 | 0.75
(-\infty,2)\cup(2,\infty) | x \neq 2
x=3y | y=x/3
\log 100 | 2
[-\infty,2) | (-\infty,2)
s_{5} | S_5
\sin\frac{\pi}{6} | \frac12
\lfloor 3.7 \rfloor | 3
\frac{1}{2} | 0.5
1/2 | \frac12
\dfrac{3}{4} | 0.75
\tfrac34 | 3/4
-\frac{7}{3} | \frac{-7}{3}
1\frac{1}{2} | \frac{3}{2}
0.333333 | \frac{1}{3}
1,234,567 | 1234567
12{,}345 | 12345
10,\!000 | 10000
5,\! 040 | 5040
\$18.90 | 18.9
\$1,200 | 1200
50\% | 0.5
50\% | 50
25% | \frac{1}{4}
28 percent | 28\%
90^\circ | 90
90^{\circ} | 90
45\text{ degrees} | 45
12\text{ cm}^2 | 12
7.5 \mathrm{~km} | 7.5
20 square feet | 20
3 hours | 3
x = 5 | 5
5 | x=5
f(x) = x^2 | x^2
y=2x+3 | 2x+3=y
2x+1=0 | 2x=-1
x \le 3 | 3 \ge x
x \in (1, 2] | (1,2]
(-\infty, 2] \cup [3, \infty) | [3,\infty)\cup(-\infty,2]
[-2,7] | -2 \le x \le 7
(0,1) | 0 < x < 1
(3,\infty) | x > 3
\left( 3, \frac{\pi}{2} \right) | (3,\pi/2)
(1, 2, 3) | (1,2,3)
\{1, 2, 3\} | \{3,2,1\}
1, 2 | 2,1
1 \text{ and } 2 | 1,2
3 \text{ or } -3 | \pm 3
2 \pm \sqrt{3} | 2+\sqrt{3}, 2-\sqrt{3}
\emptyset | \{\}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{bmatrix}1&2\\3&4\end{bmatrix}
\left[\begin{array}{cc} 1 & \frac12 \end{array}\right] | \begin{pmatrix} 1 & 0.5 \end{pmatrix}
\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix} | \begin{pmatrix} -\frac{1}{3} \\ \frac{2}{3} \end{pmatrix}
\sqrt{8} | 2\sqrt{2}
\frac{\sqrt{2}}{2} | \frac{1}{\sqrt{2}}
\sqrt[3]{27} | 3
\sqrt{16} | 4
3\pi | \pi\cdot 3
3.14159265 | \pi
2^{10} | 1024
5! | 120
\binom{5}{2} | 10
3\times10^5 | 300000
(x+1)^2 | x^2+2x+1
\frac{x+1}{2} | \frac{1+x}{2}
x^{2/3} | \sqrt[3]{x^2}
\sin^2 x + \cos^2 x | 1
6r^2-4r-24 | -24 - 4r + 6r^2
p - q | p-q
1+2i | 2i+1
|{-3}| | 3
\log_2 8 | 3
\text{Evelyn} | Evelyn
evelyn | \text{Evelyn}
\text{(C)} | C
(B) | B
\text{even} | even
\textbf{east} | east
4210_{5} | 4210_5
11_2 | 11
\boxed{42} | 42
$7$ | 7
\(7\) | 7
\[7\] | 7
7. | 7
\frac{9}{19} | 9/19
.5 | 0.5
007 | 7
-0 | 0
\displaystyle\frac{1}{6} | \frac16
\mathbf{5} | 5
32\text{nd}\text{ place} | 32
6 - 5i | -5i+6
\theta = \frac{\pi}{3} | \frac{\pi}{3}
−4 | -4
½ | 0.5
123456789012345678901234567890 | 123456789012345678901234567890
The answer is 12. | 12
The final answer is $\frac{3}{7}$. | \frac{3}{7}
so we get \boxed{3} \text{ and } \boxed{4}. | 3,4
Answer: (2, 3) | (2,3)
**Answer:** 18 | 18
The answer is 18 dollars. | 18
#### 1,024 | 1024
First 3, then 5, so 15 in total. | 15
<think>maybe \boxed{3}</think> It is \boxed{4}. | 4
<think>It is \boxed{4}</think> | 4
\boxed{\frac{1}{\sqrt{\frac{2}{3}}}} | \sqrt{\frac{3}{2}}
\boxed 9 | 9
\fbox{x+1} | 1+x
We try \boxed{1}. This does not satisfy the second condition of the problem at all. Final: \boxed{2} | 2
We try \boxed{1}, no. Final: $\boxed{2}$ | 2
\boxed{3}, then we solve for y and get \boxed{4} | 3,4
It cost \boxed{\$12.50} | 12.5
The answer is Evelyn. | \text{Evelyn}
7 = 11a + c | 11a + c
1 + 1 = 2 | 2
"""

DIFFERENT = r"""
1 1/2 | 1.5
12 000 | 12000
\text{5 cm} | 5
2x>6 | x>3
2(x+1)=0 | x+1=0
\begin{pmatrix}1\\2\end{pmatrix} | (1,2)
12.5\% | 12.5
3<x<5 | (3,5)
\frac{1}{2} | \frac{1}{3}
0.33 | \frac{1}{3}
1234 | 1,235
3.14 | \pi
(1,2) | (2,1)
(1,2) | [1,2]
[1,2) | (1,2]
\{1,2\} | \{1,2,3\}
1,2 | 1,3
50\% | 5
x > 3 | x \ge 3
x < 3 | x > 3
x=5 | x=6
1 | 2x + z = 1
11a + c | 7 = 11a + c
y = 2x + 3 | y = 2x - 3
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 2 \\ 4 & 3 \end{pmatrix}
\begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 1 & 2 \end{pmatrix}
x^2 + 1 | x^2 - 1
x^3 | x^2
\sqrt{3} | \sqrt{2}
\text{east} | \text{west}
\text{seat} | \text{east}
\text{(A)} | \text{(B)}
even | odd
-5 | 5
5 | \text{five hundred}
0 | 10
1234567.1 | 1234567.2
123456789012345678901234567890 | 123456789012345678901234567891
\boxed{32, 349} | 32349
We try \boxed{2}, no. Final: \boxed{1} | 2
\boxed{3}, then we solve for y and get \boxed{4} | 4
The answer is 13. | 12
I do not know. | 12
 | 12
\boxed{} | 12
\boxed{12 | 13
<think>\boxed{4}</think> It is \boxed{5}. | 4
\infty | 0
1 - \frac{1}{e} | 1 + \frac{1}{e}
"""

rows = []
for expected, block in ((True, EQUAL), (False, DIFFERENT)):
    for line in block.strip("\n").split("\n"):
        prediction, answer = line.rsplit(" | ", 1)
        rows.append((prediction, answer, expected))

try:
    from math_verify import parse, verify
except ImportError:
    parse = None

differ = 0
for prediction, answer, expected in rows:
    if parse:
        boxed = prediction if any(w in prediction for w in ("boxed", "fbox", "nswer", "####", " so ")) else (
            "\\boxed{" + prediction + "}")
        verdict = verify(parse("$" + answer + "$"), parse(boxed))
        if verdict != expected:
            differ += 1
            print(f"math-verify says {verdict}: {prediction!r} | {answer!r}", file=sys.stderr)
    print(json.dumps({"prediction": prediction, "answer": answer, "equal": expected}, ensure_ascii=False))
if parse:
    print(f"{len(rows)} pairs, math-verify differs on {differ}", file=sys.stderr)
