# The torch-free half: tasks, records, prompts, metrics, answers of mathematics.
vi_library(vi_eval_text
  SOURCES
    math/answer.cpp math/checker.cpp math/expression.cpp math/numeric.cpp math/compare.cpp math/extract.cpp math/latex.cpp math/normalise.cpp math/structure.cpp math/value.cpp needle.cpp needle_words.cpp predictions.cpp
    records.cpp ruler.cpp score_cases.cpp rescore.cpp task.cpp text_records.cpp truncate.cpp
    scorers/classification.cpp scorers/code_sim.cpp scorers/count.cpp scorers/math_answer.cpp
    scorers/qa_f1.cpp scorers/qa_f1_zh.cpp scorers/registry.cpp scorers/retrieval.cpp
    scorers/rouge.cpp scorers/rouge_zh.cpp
    text/difflib.cpp text/jieba.cpp text/py_literal.cpp text/unicode.cpp
  DEPS vi_config vi_common)
# Symbolic comparison with GiNaC, a program of its own: see math/checker/README.md.
add_subdirectory(math/checker)
