#!/usr/bin/env python3
"""Writes frozen predictions with the scores that LongBench's official scripts give them, unrounded.

Needs the folder that holds LongBench's metrics.py and eval.py, Python 3.11 or later, and the packages rouge
1.0.1, fuzzywuzzy 0.18.0, jieba 0.42.1 and numpy WITHOUT python-Levenshtein (which changes fuzzywuzzy):
    python3 tests/eval/make_score_fixtures.py LONGBENCH_FOLDER > tests/eval/fixtures/scores.jsonl
With a second argument, a folder of LongBench records, the cases are made from those records' answers.
"""
import glob
import json
import os
import random
import sys

sys.path.insert(0, sys.argv[1])
from eval import dataset2metric  # noqa: E402

FIRST_LINE = ("trec", "triviaqa", "samsum", "lsht")

ENGLISH = """the a an The of and in river bridge Brown brown's engine-room state-of-the-art 3.14 2,500 $7 U.S. Dr.
naive na\u00efve \u0130stanbul \u039f\u0394\u039f\u03a3 \u03a3 stra\u00dfe co\u00f6perate it's its \u201cquoted\u201d (maybe) e.g. i.e. ...
. . . , ; ! ? yes no unanswerable \ufb01ne \u00bd x\u00b2 \uff11\uff12 \u0661\u0662 caf\u0065\u0301 a\u200bb tab\there new\nline para\n\ngraph a\u00a0nbsp a\u3000wide
water levels rose sharply after storms while engineers measured pressure along every wall""".split(" ")
CHINESE = """\u6211\u4eec \u5317\u4eac \u6e05\u534e\u5927\u5b66 \u7684 \u662f \u4e86 \u548c \u5728 \u4f1a\u8bae \u8ba8\u8bba \u7ecf\u6d4e \u53d1\u5c55 \u673a\u5668\u5b66\u4e60 \u4eba\u5de5\u667a\u80fd \u738b\u5c0f\u660e \u674e\u96f7
\u3002 \uff0c \uff01 \uff1f \u3001 \u201c\u4f60\u597d\u201d \u300a\u7ea2\u697c\u68a6\u300b GPT-4 3.5% 100\u5143 2023\u5e74 C++ A\u80a1 iPhone15 \u9f98\u9750 \u9f49\u9f49 \ud840\udc00 \u4e2d\u534e\u4eba\u6c11\u5171\u548c\u56fd\u6210\u7acb\u4e86
\u7814\u7a76\u751f\u547d\u7684\u8d77\u6e90 \u4e59\u80ba\u5e03\u6d1b\u8299 \u676d\u7814 \u5a03\u5a03 . .. \r\n \t \u3000 \u65e0\u7ebf\u7535\u6cd5\u56fd\u522b\u7814\u7a76 \u5357\u4eac\u5e02\u957f\u6c5f\u5927\u6865 e\u4e0d%& x.y.z 5.20%off v2.""".split(" ")
CHINESE = [w.encode("utf-16", "surrogatepass").decode("utf-16") for w in CHINESE]
CODE = """    return self._value  def f(x): # comment // note ` ``` if (a == b) { } int i = 0; for (auto& v : list)
\t\tself.assertEqual( ) == != += "text" 'c' \r \n \n\n None null // import numpy as np foo.bar(baz) [0] \u4e2d""".split(" ")
ZH_TASKS = ("multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh")
TREC = ["Food", "Date", "Order, rank", "Speed", "Disease and medicine", "Number of something", "Number", "",
        "Definition of something", "Group or organization of person", "Organization", "Individual"]
LSHT = ["\u519c\u4e1a\u3001\u519c\u6751", "\u519b\u4e8b", "\u4f53\u80b2", "\u6559\u80b2", "\u6587\u5316\u3001\u4f11\u95f2\u5a31\u4e50", "\u6587\u5316", "\u793e\u4f1a"]

# Predictions that break scorers, met with each other as answers.
NASTY = ["", "\n", "\n\n\n", "   ", "\u3000", "\u3002", "\uff0c\u3002\uff01", "\uff11\uff12\uff13", "\u4e09\u5341", "\u6bb5\u843d3", "\u6bb5\u843d\uff13",
         "Paragraph 3\nParagraph 3\nParagraph 3", "\u6bb5\u843d3\u6bb5\u843d3\u6bb5\u843d5", "the the the", "A. B. C.", "a" * 300, "\U0001f600\U0001f468\u200d\U0001f469",
         "e\u0301 \u00e9", "\u0000x", "x\u2028y", "x\u0085y", "x\x1cy\x1dz", "\ufeffx", "\u01c5 \u00df \u1e9e \u0149 \ufb00 \u0130", "# comment\n// c\ncode()",
         "```python\nprint(1)\n```", "\tint x; // c\nreturn;", "/* c */ x", "x = 1 # c\ny", "\u0663\u0664 \u096a\u096b 3", "Paragraph \u0663",
         "\u00bd \u00b2 \u00b3 \u2460", "no.no.no", "....", "a. . b", "Yes\nYes\nYes", "\r\nfoo\rbar", "\u300a\u7ea2\u697c\u68a6\u300b\u7684\u4f5c\u8005\u662f\u66f9\u96ea\u82b9\u3002",
         "\u4ed6\u8bf4\uff1a\u201c\u4f60\u597d\uff0c\u4e16\u754c\uff01\u201d", "GPT-4\u76843.5%\u589e\u957f", "\u9f98\u9f98\u9f98", "\U00020bb7\u91ce\u5bb6", "\uff41\uff42\uff43 \uff21\uff22\uff23",
         "a\u00adb", "\u202eabc", "'s don't U.S.A.", "-1 +2 1e5 0x1F 1,000"]
FIXED = {"passage_count": "3", "passage_retrieval_en": "Paragraph 3", "passage_retrieval_zh": "\u6bb5\u843d3"}


def nasty(rng, task):
    for prediction in NASTY:
        if task in ("trec", "lsht"):
            classes = TREC if task == "trec" else LSHT
            yield prediction, [rng.choice(classes)], classes
        else:
            yield prediction, [FIXED[task]] if task in FIXED else rng.sample(NASTY, 2), None


def words_of(task):
    if task in ZH_TASKS:
        return CHINESE
    return CODE if task in ("lcc", "repobench-p") else ENGLISH


def text(rng, task, longest):
    glue = "" if task in ZH_TASKS and rng.random() < 0.8 else " "
    return glue.join(rng.choice(words_of(task)) for _ in range(rng.randrange(longest + 1)))


def changed(rng, task, answer):
    """A plausible prediction: the answer with characters and words dropped, doubled, put around it."""
    kind = rng.randrange(6)
    if kind == 0:
        return answer
    if kind == 1:
        return text(rng, task, 30)
    if kind == 2:
        return text(rng, task, 8) + " " + answer + text(rng, task, 20)
    if kind == 3:
        return "".join(c for c in answer if rng.random() > 0.1)
    if kind == 4:
        words = answer.split(" ")
        rng.shuffle(words)
        return " ".join(words)
    return "\n" * rng.randrange(3) + answer[:rng.randrange(len(answer) + 1)] + "\n" + text(rng, task, 20)


def made(rng, task):
    if task in ("trec", "lsht"):
        classes = TREC if task == "trec" else LSHT
        answer = rng.choice(classes)
        named = rng.sample(classes, rng.randrange(5)) + ([answer] if rng.random() < 0.5 else [])
        rng.shuffle(named)
        return ("\n" * rng.randrange(2) + " / ".join(named) + rng.choice(["", "\nType: Food"]), [answer], classes)
    if task.startswith("passage_"):
        number = rng.randrange(1, 31)
        mark = {"passage_count": "", "passage_retrieval_en": "Paragraph ", "passage_retrieval_zh": "\u6bb5\u843d"}[task]
        numbers = [str(rng.choice([number, rng.randrange(40)])) for _ in range(rng.randrange(4))]
        numbers += ["\uff11\uff12"] * rng.randrange(2)
        return (mark + rng.choice([", ", " and " + mark, "."]).join(numbers) + text(rng, task, 4),
                [f"{mark}{number}"], None)
    longest = {"gov_report": 150, "multi_news": 150, "qmsum": 80, "vcsum": 120, "dureader": 80}.get(task, 25)
    answers = [text(rng, task, longest) for _ in range(rng.choice([1, 1, 1, 2, 3, 0]))]
    return changed(rng, task, rng.choice(answers or [""])), answers, None


def past_the_recursion_limit(task):
    """Around the length where the package rouge gives up; one word is one character for Chinese."""
    for n in (400, 985, 994, 1200):
        if task == "vcsum":
            line = "".join(chr(0x3400 + k) for k in range(n))
        else:
            line = " ".join(f"w{k}" for k in range(n))
        yield line, [line], None
        yield line[: len(line) // 2], [line], None


def recorded(rng, task, folder):
    for path in glob.glob(os.path.join(folder, "**", task + "*.jsonl"), recursive=True):
        if os.path.basename(path) not in (task + ".jsonl", task + "_e.jsonl"):
            continue
        records = [json.loads(line) for line in open(path, encoding="utf-8").read().split("\n") if line]
        for record in records:
            other = rng.choice(records)["answers"]
            for _ in range(3):
                source = rng.choice([rng.choice(record["answers"]), rng.choice(other)])
                yield changed(rng, task, source), record["answers"], record["all_classes"]
            if rng.random() < 0.2:
                yield record["context"][:2000], record["answers"], record["all_classes"]


def score(task, prediction, answers, classes):
    if task in FIRST_LINE:
        prediction = prediction.lstrip("\n").split("\n")[0]
    best = 0.0
    for answer in answers:
        best = max(best, dataset2metric[task](prediction, answer, all_classes=classes))
    return best


rng = random.Random(20260101)
for task in dataset2metric:
    if len(sys.argv) > 2:
        cases = list(recorded(rng, task, sys.argv[2]))
    else:
        cases = [made(rng, task) for _ in range(30)]
        cases += [("", [""], TREC), (" . ", ["x"], TREC), ("...", ["..."], TREC)] if "passage" not in task else []
        cases += list(past_the_recursion_limit(task)) if task in ("vcsum", "gov_report") else []
        cases += list(nasty(random.Random(len(task)), task))
        if task == "lcc":  # difflib's autojunk begins at 200 characters
            line = "x = [" + ", ".join(f"a{k % 7}" for k in range(60)) + "]"
            cases += [(line[5:] + "!", [line], None), (line.replace("a3", "b"), [line], None)]
    for prediction, answers, classes in cases:
        value = score(task, prediction, answers, classes)
        print(json.dumps({"task": task, "prediction": prediction, "answers": answers, "all_classes": classes,
                          "score": value}, ensure_ascii=False))
