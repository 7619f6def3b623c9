# The torch-free half: tasks, records, prompts, metrics, answers of mathematics.
vi_library(vi_eval_text
  SOURCES
    benchmark/predictions.cpp benchmark/records.cpp benchmark/rescore.cpp benchmark/score_cases.cpp benchmark/task.cpp
    benchmark/text_records.cpp benchmark/truncate.cpp
    math/answer.cpp math/checker.cpp math/compare.cpp math/expression.cpp math/extract.cpp math/latex.cpp math/normalise.cpp
    math/numeric.cpp math/structure.cpp math/value.cpp
    retrieval/needle.cpp retrieval/needle_words.cpp retrieval/ruler.cpp
    scorers/classification.cpp scorers/code_sim.cpp scorers/count.cpp scorers/math_answer.cpp
    scorers/qa_f1.cpp scorers/qa_f1_zh.cpp scorers/registry.cpp scorers/retrieval.cpp
    scorers/rouge.cpp scorers/rouge_zh.cpp
    text/difflib.cpp text/jieba.cpp text/py_literal.cpp text/unicode.cpp
  DEPS vi_config vi_common)
# Symbolic comparison with GiNaC, a program of its own: see math/checker/README.md.
add_subdirectory(math/checker)
